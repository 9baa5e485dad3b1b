//! What the points of one metric share, and the labels of a series that is made of it and of a point's attributes.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use model::METRIC_NAME;

use super::labels::{Label, Shared, check, pairs, point_labels, set, short};
use super::name::{LabelNaming, metric_name};
use super::points::number_text;
use super::wire::{self, Malformed, Repeated};
use super::{Kind, LabelLimits, Options, Refused, Strategy};
use crate::RejectedRecords;

/// A resource of a request, with the labels that it gives to all of its series.
#[derive(Debug)]
pub struct ResourceLabels<'a> {
    /// The bytes that it was read from.
    pub(super) pieces: Vec<&'a [u8]>,
    pub(super) shared: Shared<'a>,
}

/// A scope of a resource, with the labels that it gives to all of its series.
#[derive(Debug)]
pub struct ScopeLabels<'a> {
    /// The bytes that it was read from.
    pub(super) pieces: Vec<&'a [u8]>,
    pub(super) labels: Vec<Label<'a>>,
}

impl<'a> ResourceLabels<'a> {
    /// Returns bytes that tell it from any other resource; equal ones give equal labels.
    pub fn identity(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.pieces.iter().copied()
    }
}

impl<'a> ScopeLabels<'a> {
    /// Returns bytes that tell it from any other scope; equal ones give equal labels.
    pub fn identity(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.pieces.iter().copied()
    }
}

/// A metric of a resource and scope.
#[derive(Debug)]
pub struct Family<'a> {
    /// Who emitted.
    pub resource: Arc<ResourceLabels<'a>>,
    /// Which instrumentation library.
    pub scope: Arc<ScopeLabels<'a>>,
    name: &'a str,
    unit: &'a str,
    kind: Kind,
    /// As the wire has it; cumulative for kinds that have none.
    pub(super) temporality: u32,
    strategy: Strategy,
    naming: LabelNaming,
    limits: LabelLimits,
    translated: OnceLock<String>,
}

/// The attributes of a point, undecoded.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub(super) Repeated<'a>);

impl<'a> Attributes<'a> {
    /// Returns their bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0.stretch()
    }
}

/// Which of the series that a point becomes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// The only one.
    Whole,
    /// The bucket of a histogram up to this bound.
    Bucket(f64),
    /// The sum.
    Sum,
    /// The count.
    Count,
}

impl Part {
    /// Returns a number that tells it from any other part.
    #[must_use]
    pub fn identity(self) -> u128 {
        match self {
            Self::Whole => 0,
            Self::Sum => 1,
            Self::Count => 2,
            Self::Bucket(bound) => 1 << 64 | u128::from(bound.to_bits()),
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Bucket(_) => "_bucket",
            Self::Sum => "_sum",
            Self::Count => "_count",
        }
    }
}

/// Why there are no labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoLabels {
    /// The point is refused.
    Refused(RejectedRecords),
    /// The bytes are no attributes.
    Malformed(String),
}

impl From<Malformed> for NoLabels {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.to_string())
    }
}

impl From<Refused> for NoLabels {
    fn from(Refused { reason, detail }: Refused) -> Self {
        Self::Refused(RejectedRecords { reason, count: 1, detail })
    }
}

impl<'a> Family<'a> {
    pub(super) fn new(
        resource: &Arc<ResourceLabels<'a>>,
        scope: &Arc<ScopeLabels<'a>>,
        (name, unit): (&'a str, &'a str),
        (kind, temporality): (Kind, u32),
        options: &Options,
    ) -> Self {
        Self {
            resource: Arc::clone(resource),
            scope: Arc::clone(scope),
            name,
            unit,
            kind,
            temporality,
            strategy: options.strategy,
            naming: options.label_naming(),
            limits: options.limits,
            translated: OnceLock::new(),
        }
    }

    /// Returns bytes that, with resource and scope, tell it from any other family; equal ones give equal labels.
    #[must_use]
    pub fn identity(&self) -> [&'a [u8]; 3] {
        let kind: &'static [u8] = match self.kind {
            Kind::Gauge => b"gauge",
            Kind::Counter => b"counter",
            Kind::UpDownCounter => b"updowncounter",
            Kind::Histogram => b"histogram",
            Kind::Summary => b"summary",
        };
        [self.name.as_bytes(), self.unit.as_bytes(), kind]
    }

    /// Returns the metric's name in Prometheus; empty when nothing of it can be kept.
    pub(super) fn prometheus_name(&self) -> &str {
        self.translated.get_or_init(|| metric_name(self.name, self.unit, self.kind, self.strategy))
    }

    pub(super) fn is_delta(&self) -> bool {
        self.temporality == wire::DELTA
    }

    /// Tests what all points of it share.
    pub(super) fn check(&self) -> Result<(), Refused> {
        if self.temporality != wire::CUMULATIVE && self.temporality != wire::DELTA {
            let detail = || format!("metric {:?} says neither delta nor cumulative", short(self.prometheus_name()));
            return Err(Refused::new("unspecified_temporality", detail));
        }
        Ok(())
    }

    /// Returns the labels that all parts of a point share, sorted; the name is not among them.
    pub(super) fn base_labels(&self, attributes: Repeated<'a>) -> Result<Vec<Label<'a>>, NoLabels> {
        let name = self.prometheus_name();
        if name.is_empty() {
            let detail = || "a metric has no name that can be kept".to_owned();
            return Err(Refused::new("empty_metric_name", detail).into());
        }
        let mut read = Vec::new();
        pairs(attributes, &mut read)?;
        let labels = point_labels(&read, &self.resource.shared, &self.scope.labels, self.naming)?;
        check(&labels, name, &self.limits)?;
        Ok(labels)
    }

    /// Returns the labels of a series, sorted.
    ///
    /// # Errors
    /// [`NoLabels`] when the point is to be refused for them, or cannot be read.
    pub fn labels(&self, attributes: Attributes<'a>, part: Part) -> Result<Vec<Label<'a>>, NoLabels> {
        let mut labels = self.base_labels(attributes.0)?;
        self.name_part(&mut labels, part);
        Ok(labels)
    }

    /// Makes the labels of a point those of one of its parts.
    pub(super) fn name_part(&self, labels: &mut Vec<Label<'a>>, part: Part) {
        let name = format!("{}{}", self.prometheus_name(), part.suffix());
        set(labels, Cow::Borrowed(METRIC_NAME), Cow::Owned(name));
        if let Part::Bucket(bound) = part {
            set(labels, Cow::Borrowed("le"), Cow::Owned(number_text(bound)));
        }
    }
}
