//! Random requests: nothing panics, every point is accounted for, labels are as promised, JSON reads as protobuf does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use model::{Exemplar as Kept, MetricMetadata, Timestamp};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::*;
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message as _;

use super::{
    DeltaOptions, DeltaStates, Family, Label, LabelLimits, NoLabels, Options, Point, PointValue, Promoted, Remembered,
    Report, ResourceLabels, ScopeLabels, Sink, Strategy as Names, Undecoded, translate,
};
use crate::metrics_from_json;

/// Holds what it got, and tests the promises of [`Sink`].
#[derive(Default)]
struct Checker {
    samples: u64,
    metadata: u64,
}

impl<'a> Sink<'a> for Checker {
    type Full = Infallible;

    fn series(&mut self, labels: &[Label<'a>], point: Point, exemplars: Vec<Kept>) -> Result<(), Infallible> {
        assert!(point.start_ms <= point.timestamp_ms, "{point:?}");
        if let PointValue::Histogram(histogram) = &point.value {
            for side in [&histogram.positive, &histogram.negative] {
                assert!(side.is_sorted_by(|a, b| a.0 < b.0) && side.iter().all(|(_, count)| *count > 0.0), "{point:?}");
            }
            assert!((-4..=8).contains(&histogram.schema) || histogram.is_custom(), "{point:?}");
        }
        for exemplar in exemplars {
            let chars: usize =
                exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
            assert!(chars <= 128, "{exemplar:?}");
        }
        assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "sorted, no repeats: {labels:?}");
        assert!(labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()), "{labels:?}");
        assert!(labels.iter().any(|(name, _)| name == "__name__"), "{labels:?}");
        self.samples += 1;
        Ok(())
    }

    fn metadata(&mut self, metadata: MetricMetadata) -> Result<(), Infallible> {
        assert!(!metadata.name.is_empty());
        self.metadata += 1;
        Ok(())
    }
}

/// Notes what it got.
#[derive(Default)]
struct Recorder(Vec<String>);

impl<'a> Sink<'a> for Recorder {
    type Full = Infallible;

    fn series(&mut self, labels: &[Label<'a>], point: Point, exemplars: Vec<Kept>) -> Result<(), Infallible> {
        self.0.push(format!("{labels:?} {point:?} {exemplars:?}"));
        Ok(())
    }

    fn metadata(&mut self, _: MetricMetadata) -> Result<(), Infallible> {
        Ok(())
    }
}

type Pieces = Vec<Vec<u8>>;
/// Resource, scope and metric.
type FamilyIdentity = (Pieces, Pieces, Pieces, u8);

/// As a [`Recorder`], by whom what has the same identity is taken for the same.
#[derive(Default)]
struct Rememberer {
    recorder: Recorder,
    /// From request to request.
    resources: HashMap<Pieces, bool>,
    labels: HashMap<(FamilyIdentity, Vec<u8>, u128), String>,
    metadata: HashMap<(Pieces, u8), MetricMetadata>,
    current: FamilyIdentity,
}

fn pieces<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Pieces {
    pieces.map(<[u8]>::to_vec).collect()
}

impl<'a> Sink<'a> for Rememberer {
    type Full = Infallible;

    fn series(&mut self, labels: &[Label<'a>], point: Point, exemplars: Vec<Kept>) -> Result<(), Infallible> {
        self.recorder.series(labels, point, exemplars)
    }

    fn resource(&mut self, resource: &Arc<ResourceLabels<'a>>) -> Remembered {
        self.current.0 = pieces(resource.identity());
        match self.resources.get(&self.current.0) {
            Some(has_target) => Remembered::Sound { has_target: *has_target },
            None => Remembered::Nothing,
        }
    }

    fn sound(&mut self, has_target: bool) {
        self.resources.insert(self.current.0.clone(), has_target);
    }

    fn scope(&mut self, scope: &Arc<ScopeLabels<'a>>) {
        self.current.1 = pieces(scope.identity());
    }

    fn family(&mut self, family: &Family<'_, 'a>) {
        let (header, kind) = family.identity();
        (self.current.2, self.current.3) = (pieces(header.into_iter()), kind);
    }

    fn undecoded(
        &mut self,
        family: &Family<'_, 'a>,
        series: Undecoded<'a>,
        exemplars: Vec<Kept>,
    ) -> Result<Result<(), NoLabels>, Infallible> {
        let labels = match family.labels(series.attributes, series.part) {
            Ok(labels) => labels,
            Err(fault) => return Ok(Err(fault)),
        };
        let identity = (self.current.clone(), series.attributes.bytes().to_vec(), series.part.identity());
        let before = self.labels.entry(identity).or_insert_with(|| format!("{labels:?}"));
        assert_eq!(*before, format!("{labels:?}"));
        let value = PointValue::Number(series.sample.value);
        let point = Point { timestamp_ms: series.sample.timestamp_ms, start_ms: series.start_ms, value };
        self.series(&labels, point, exemplars).map(Ok)
    }

    fn metadata(&mut self, metadata: MetricMetadata) -> Result<(), Infallible> {
        if metadata.name != "target_info" {
            let identity = (self.current.2.clone(), self.current.3);
            let before = self.metadata.entry(identity).or_insert_with(|| metadata.clone());
            assert_eq!(*before, metadata);
        }
        Ok(())
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            "a",
            "a.b",
            "a_b",
            "_a",
            "9a",
            "le",
            "quantile",
            "job",
            "__name__",
            "service.name",
            "service.namespace",
            "service.instance.id",
            "s",
            "By/s",
            "1",
            "total",
            "결제",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let value = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(any_value::Value::StringValue(text))),
        any::<i64>().prop_map(|number| Some(any_value::Value::IntValue(number))),
        any::<bool>().prop_map(|truth| Some(any_value::Value::BoolValue(truth))),
        any::<Vec<u8>>().prop_map(|bytes| Some(any_value::Value::BytesValue(bytes))),
    ];
    let pair = (text(), value).prop_map(|(key, value)| KeyValue {
        key,
        value: Some(AnyValue { value }),
        ..KeyValue::default()
    });
    prop::collection::vec(pair, 0..5)
}

fn nanos() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..20_u64, Just(u64::MAX), any::<u64>(), Just(1_700_000_000_000_000_000)]
}

/// A number that JSON can say.
fn number() -> impl Strategy<Value = f64> {
    prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::NEGATIVE
}

fn exemplars() -> impl Strategy<Value = Vec<Exemplar>> {
    let value = prop_oneof![
        Just(None),
        number().prop_map(|number| Some(exemplar::Value::AsDouble(number))),
        any::<i64>().prop_map(|number| Some(exemplar::Value::AsInt(number))),
    ];
    let id = |length: usize| {
        prop_oneof![prop::collection::vec(any::<u8>(), length), prop::collection::vec(any::<u8>(), 0..20)]
    };
    let one = (attributes(), nanos(), value, id(16), id(8)).prop_map(
        |(filtered_attributes, time_unix_nano, value, trace_id, span_id)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            value,
            trace_id,
            span_id,
        },
    );
    prop::collection::vec(one, 0..3)
}

fn exponential_points() -> impl Strategy<Value = Vec<ExponentialHistogramDataPoint>> {
    let side = prop::option::of((any::<i16>(), any::<bool>(), prop::collection::vec(0..1000_u64, 0..6)).prop_map(
        |(offset, far, bucket_counts)| {
            let offset = if far { i32::from(offset) << 16 } else { i32::from(offset) };
            exponential_histogram_data_point::Buckets { offset, bucket_counts }
        },
    ));
    let buckets = (side.clone(), side, 0..5_u64, -6..20_i32, prop_oneof![Just(0.0), number()], any::<bool>());
    let rest = (attributes(), nanos(), nanos(), 0..3_u32, prop::option::of(number()), exemplars());
    let point = (rest, buckets).prop_map(
        |(
            (attributes, start, time, flags, sum, exemplars),
            (positive, negative, zero_count, scale, zero_threshold, right),
        )| {
            let in_buckets = |side: &Option<exponential_histogram_data_point::Buckets>| {
                side.as_ref().map_or(0, |side| side.bucket_counts.iter().sum::<u64>())
            };
            let count = if right { in_buckets(&positive) + in_buckets(&negative) + zero_count } else { 7 };
            ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count,
                sum,
                scale,
                zero_count,
                positive,
                negative,
                flags,
                exemplars,
                zero_threshold,
                ..ExponentialHistogramDataPoint::default()
            }
        },
    );
    prop::collection::vec(point, 0..4)
}

fn number_points() -> impl Strategy<Value = Vec<NumberDataPoint>> {
    let value = prop_oneof![
        Just(None),
        number().prop_map(|number| Some(number_data_point::Value::AsDouble(number))),
        any::<i64>().prop_map(|number| Some(number_data_point::Value::AsInt(number))),
    ];
    let point = (attributes(), nanos(), nanos(), 0..3_u32, value, exemplars()).prop_map(
        |(attributes, start, time, flags, value, exemplars)| NumberDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: time,
            flags,
            value,
            exemplars,
        },
    );
    prop::collection::vec(point, 0..4)
}

fn histogram_points() -> impl Strategy<Value = Vec<HistogramDataPoint>> {
    let buckets = (prop::collection::vec(any::<u64>(), 0..4), prop::collection::vec(number(), 0..4), any::<bool>());
    let buckets = buckets.prop_map(|(mut counts, mut bounds, mend)| {
        if mend {
            bounds.sort_by(f64::total_cmp);
            bounds.dedup();
            counts.resize(bounds.len() + 1, 1);
        }
        (counts, bounds)
    });
    let rest = (attributes(), nanos(), nanos(), 0..3_u32, any::<u64>(), prop::option::of(number()), exemplars());
    let point =
        (rest, buckets).prop_map(|((attributes, start, time, flags, count, sum, exemplars), (counts, bounds))| {
            let added = counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
            HistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                exemplars,
                count: if count % 4 > 0 { added } else { count },
                sum,
                bucket_counts: counts,
                explicit_bounds: bounds,
                flags,
                ..HistogramDataPoint::default()
            }
        });
    prop::collection::vec(point, 0..4)
}

fn summary_points() -> impl Strategy<Value = Vec<SummaryDataPoint>> {
    let quantile =
        (number(), number()).prop_map(|(quantile, value)| summary_data_point::ValueAtQuantile { quantile, value });
    let point = (attributes(), nanos(), 0..3_u32, prop::collection::vec(quantile, 0..4)).prop_map(
        |(attributes, time, flags, quantile_values)| SummaryDataPoint {
            attributes,
            time_unix_nano: time,
            flags,
            quantile_values,
            ..SummaryDataPoint::default()
        },
    );
    prop::collection::vec(point, 0..3)
}

fn data() -> impl Strategy<Value = Option<Data>> {
    prop_oneof![
        Just(None),
        number_points().prop_map(|data_points| Some(Data::Gauge(Gauge { data_points }))),
        (number_points(), -1..4_i32, any::<bool>()).prop_map(|(data_points, aggregation_temporality, is_monotonic)| {
            Some(Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic }))
        }),
        (histogram_points(), 0..3_i32).prop_map(|(data_points, aggregation_temporality)| {
            Some(Data::Histogram(Histogram { data_points, aggregation_temporality }))
        }),
        summary_points().prop_map(|data_points| Some(Data::Summary(Summary { data_points }))),
        (exponential_points(), 0..3_i32).prop_map(|(data_points, aggregation_temporality)| {
            Some(Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality }))
        }),
    ]
}

pub(super) fn request() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let metric =
        (text(), text(), data()).prop_map(|(name, unit, data)| Metric { name, unit, data, ..Metric::default() });
    let scope =
        (prop::option::of((text(), attributes())), prop::collection::vec(metric, 0..4)).prop_map(|(scope, metrics)| {
            let scope = scope.map(|(name, attributes)| InstrumentationScope {
                name,
                attributes,
                ..InstrumentationScope::default()
            });
            ScopeMetrics { scope, metrics, ..ScopeMetrics::default() }
        });
    let resource =
        (prop::option::of(attributes()), prop::collection::vec(scope, 0..3)).prop_map(|(attributes, scope_metrics)| {
            let resource = attributes.map(|attributes| Resource { attributes, ..Resource::default() });
            ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }
        });
    prop::collection::vec(resource, 0..3).prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
}

fn points(request: &ExportMetricsServiceRequest) -> u64 {
    let metrics = request.resource_metrics.iter().flat_map(|one| &one.scope_metrics).flat_map(|one| &one.metrics);
    let len = metrics.map(|metric| match &metric.data {
        None => 1,
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        Some(Data::Summary(summary)) => summary.data_points.len(),
    });
    len.sum::<usize>() as u64
}

fn options() -> impl Strategy<Value = Options> {
    let promoted = prop_oneof![
        Just(Promoted::Only(vec!["a.b".to_owned(), "a_b".to_owned()])),
        Just(Promoted::AllBut(vec!["job".to_owned()])),
    ];
    let limits = LabelLimits { labels_max: 6, name_bytes_max: 24, value_bytes_max: 24 };
    (prop::sample::select(&Names::ALL), promoted, any::<[bool; 4]>()).prop_map(move |(strategy, promoted, chosen)| {
        Options {
            strategy,
            promoted,
            label_key_prefix: chosen[0],
            label_keep_underscores: chosen[1],
            keep_identifying: chosen[2],
            custom_buckets: chosen[3],
            limits,
            buckets_max: 4,
            ..Options::default()
        }
    })
}

fn states() -> DeltaStates {
    DeltaStates::new(DeltaOptions { series_max: 3, ..DeltaOptions::default() }, None)
}

proptest! {
    #[test]
    fn every_point_is_translated_or_rejected(requests in prop::collection::vec(request(), 1..4), options in options()) {
        let mut deltas = states();
        for request in &requests {
            let mut checker = Checker::default();
            let body = request.encode_to_vec();
            let report = translate(&body, &options, &mut deltas, Timestamp(1), &mut checker).unwrap();
            prop_assert_eq!(report.points, points(request));
            prop_assert!(checker.samples >= report.accepted(), "an accepted point has a sample");
            prop_assert!(deltas.len() <= 3);
        }
        deltas.rollback();
        prop_assert!(deltas.is_empty());
    }

    #[test]
    fn what_is_remembered_changes_nothing(
        requests in prop::collection::vec(request(), 1..4),
        options in options(),
        target_info: bool,
    ) {
        let options = Options { target_info, ..options };
        let bodies: Vec<Vec<u8>> = requests.iter().map(prost::Message::encode_to_vec).collect();
        let (mut plain, mut rememberer) = (Recorder::default(), Rememberer::default());
        let (mut deltas, mut again) = (states(), states());
        // What was remembered in the first round serves in the second.
        for body in bodies.iter().chain(&bodies) {
            let translated: Report = translate(body, &options, &mut deltas, Timestamp(1), &mut plain).unwrap();
            let with_memory: Report = translate(body, &options, &mut again, Timestamp(1), &mut rememberer).unwrap();
            prop_assert_eq!(translated, with_memory);
        }
        prop_assert_eq!(plain.0, rememberer.recorder.0);
    }

    #[test]
    fn damaged_bytes_never_panic(
        request in request(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        options in options(),
    ) {
        let mut body = request.encode_to_vec();
        if !body.is_empty() {
            for (at, byte) in damage {
                let at = at.index(body.len());
                body[at] = byte;
            }
            if let Some(cut) = cut {
                body.truncate(cut.index(body.len()));
            }
        }
        let mut checker = Checker::default();
        if let Ok(report) = translate(&body, &options, &mut states(), Timestamp(1), &mut checker) {
            prop_assert!(checker.samples >= report.accepted());
        }
    }

    #[test]
    fn any_bytes_never_panic(body: Vec<u8>) {
        drop(translate(&body, &Options::default(), &mut states(), Timestamp(1), &mut Checker::default()));
    }

    #[test]
    fn json_reads_as_it_was_written(request in request()) {
        let json = serde_json::to_vec(&request).unwrap();
        prop_assert_eq!(metrics_from_json(&json).unwrap(), request);
    }
}
