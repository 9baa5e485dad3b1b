//! What the points of one metric share, and the labels of a series that is made of it and of a point's attributes.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::OnceLock;

use model::METRIC_NAME;

use super::labels::{Label, Shared, check, pairs, point_labels, resource_labels, set, short, target_labels};
use super::name::metric_name;
use super::points::number_text;
use super::wire::{self, Header, Malformed, Pair, Repeated};
use super::{Kind, Options, Refused};
use crate::RejectedRecords;

/// A resource of a request, and the labels that it gives to all of its series.
#[derive(Debug)]
pub struct ResourceLabels<'a> {
    /// The bytes that it was read from; nearly always one piece.
    first: &'a [u8],
    others: Vec<&'a [u8]>,
    attributes: Vec<Pair<'a>>,
    options: &'a Options,
    shared: OnceLock<Result<Shared<'a>, Refused>>,
}

/// A scope of a resource, with the labels that it gives to all of its series.
#[derive(Debug)]
pub struct ScopeLabels<'a> {
    /// The bytes that it was read from.
    pub(super) pieces: Vec<&'a [u8]>,
    pub(super) labels: Vec<Label<'a>>,
}

impl<'a> ResourceLabels<'a> {
    /// Reads the attributes, whose text is not tested yet.
    pub(super) fn read(resource: Repeated<'a>, options: &'a Options) -> Result<Self, Malformed> {
        let (mut first, mut others, mut attributes) = (None, Vec::new(), Vec::new());
        let mut pieces = resource.iter();
        while let Some(piece) = pieces.next()? {
            pairs(wire::resource_attributes(piece), &mut attributes)?;
            match first {
                None => first = Some(piece),
                Some(_) => others.push(piece),
            }
        }
        Ok(Self { first: first.unwrap_or_default(), others, attributes, options, shared: OnceLock::new() })
    }

    /// Returns bytes that tell it from any other resource; equal ones give equal labels.
    pub fn identity(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    /// Returns the labels of all its series, decoded once.
    pub(super) fn shared(&self) -> Result<&Shared<'a>, Refused> {
        let shared = self.shared.get_or_init(|| resource_labels(&self.attributes, self.options));
        shared.as_ref().map_err(Clone::clone)
    }

    /// Returns the labels of its `target_info`; `None` when there is none for it.
    ///
    /// # Errors
    /// [`NoLabels`] when they are not sound.
    pub fn target_labels(&self) -> Result<Option<Vec<Label<'a>>>, NoLabels> {
        Ok(self.target()?)
    }

    pub(super) fn target(&self) -> Result<Option<Vec<Label<'a>>>, Refused> {
        let labels = target_labels(&self.attributes, self.shared()?, self.options)?;
        if let Some(labels) = &labels {
            check(labels, "target_info", &self.options.limits)?;
        }
        Ok(labels)
    }
}

impl<'a> ScopeLabels<'a> {
    /// Returns bytes that tell it from any other scope; equal ones give equal labels.
    pub fn identity(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.pieces.iter().copied()
    }
}

/// What the name of a metric in Prometheus is made of.
#[derive(Debug, Clone, Copy)]
pub struct MetricName<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    pub(super) kind: Kind,
    /// As the wire has it; cumulative for kinds that have none.
    pub(super) temporality: u32,
}

/// A metric of a resource and scope.
#[derive(Debug)]
pub struct Family<'f, 'a> {
    resource: &'f ResourceLabels<'a>,
    scope: &'f ScopeLabels<'a>,
    name: MetricName<'a>,
    header: Header<'a>,
    translated: OnceCell<String>,
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

impl<'f, 'a> Family<'f, 'a> {
    /// Returns a metric whose name and limits are known to be sound.
    #[must_use]
    pub fn new(resource: &'f ResourceLabels<'a>, scope: &'f ScopeLabels<'a>, name: MetricName<'a>) -> Self {
        Self { resource, scope, name, header: Header::default(), translated: OnceCell::new() }
    }

    pub(super) fn with_header(self, header: Header<'a>) -> Self {
        Self { header, ..self }
    }

    /// Gives it the name in Prometheus, when that was told by [`prometheus_name`](Self::prometheus_name) before.
    #[must_use]
    pub fn with_prometheus_name(self, name: String) -> Self {
        Self { translated: OnceCell::from(name), ..self }
    }

    /// Returns the metric's name in Prometheus, if it was asked for so far.
    #[must_use]
    pub fn into_prometheus_name(self) -> Option<String> {
        self.translated.into_inner()
    }

    /// Returns what the name is made of.
    #[must_use]
    pub fn name(&self) -> MetricName<'a> {
        self.name
    }

    /// Returns bytes and a small number that, with resource and scope, tell it from any other family; equal ones give
    /// equal labels and equal metadata. Empty pieces count.
    #[must_use]
    pub fn identity(&self) -> ([&'a [u8]; 4], u8) {
        let kind = match self.name.kind {
            Kind::Gauge => 0,
            Kind::Counter => 1,
            Kind::UpDownCounter => 2,
            Kind::Histogram => 3,
            Kind::Summary => 4,
        };
        (self.header.pieces, kind * 2 + u8::from(self.header.is_whole))
    }

    /// Returns the metric's name in Prometheus; empty when nothing of it can be kept.
    #[must_use]
    pub fn prometheus_name(&self) -> &str {
        let MetricName { name, unit, kind, .. } = self.name;
        self.translated.get_or_init(|| metric_name(name, unit, kind, self.options().strategy))
    }

    fn options(&self) -> &'a Options {
        self.resource.options
    }

    pub(super) fn is_delta(&self) -> bool {
        self.name.temporality == wire::DELTA
    }

    /// Tests what all points of it share.
    pub(super) fn check(&self) -> Result<(), Refused> {
        let temporality = self.name.temporality;
        if temporality != wire::CUMULATIVE && temporality != wire::DELTA {
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
        let naming = self.options().label_naming();
        let labels = point_labels(&read, self.resource.shared()?, &self.scope.labels, naming)?;
        check(&labels, name, &self.options().limits)?;
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
