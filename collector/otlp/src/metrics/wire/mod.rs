//! OTLP's metrics messages as they lie in a request's body: numbers are read, text and lists stay where they are.
//!
//! Text is not tested here. What is malformed ends the walk over the request, as it would with a generated decoder;
//! what is only unsuitable for one point is for the translation to refuse. As protobuf has it, the last of a repeated
//! single field wins, lists may come in pieces, and unknown fields are passed over.

mod any;
mod points;
mod reader;

#[cfg(test)]
mod tests;

pub(super) use any::{Any, Pair};
pub(super) use points::{
    Buckets, Exemplar, ExponentialPoint, HistogramPoint, NumberPoint, Quantile, Side, SummaryPoint,
};
pub(crate) use reader::{Malformed, Reader, Value as Field};

use reader::Value;

/// The fields with one number in a stretch of a message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Repeated<'a> {
    stretch: &'a [u8],
    tag: u32,
    /// Whether other fields may lie between.
    is_mixed: bool,
}

impl<'a> Repeated<'a> {
    /// Returns the bytes from the first of the fields to the last.
    pub(super) fn stretch(&self) -> &'a [u8] {
        self.stretch
    }

    /// Says whether other fields may lie between.
    pub(super) fn is_mixed(&self) -> bool {
        self.is_mixed
    }

    /// The fields with one number in all of a message.
    fn all(message: &'a [u8], tag: u32) -> Self {
        Self { stretch: message, tag, is_mixed: true }
    }

    pub(super) fn iter(&self) -> Messages<'a> {
        Messages { reader: Reader::new(self.stretch), tag: self.tag }
    }

    pub(super) fn count(&self) -> Result<u64, Malformed> {
        let mut messages = self.iter();
        let mut count = 0;
        while messages.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// Goes over [`Repeated`].
#[derive(Debug, Clone)]
pub(super) struct Messages<'a> {
    reader: Reader<'a>,
    tag: u32,
}

impl<'a> Messages<'a> {
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        while let Some((tag, value)) = self.reader.next()? {
            if tag == self.tag {
                return value.bytes().map(Some);
            }
        }
        Ok(None)
    }
}

/// Finds the stretch of a message that holds all fields with one number.
#[derive(Debug, Default)]
struct Stretch {
    start: Option<usize>,
    end: usize,
    is_mixed: bool,
}

impl Stretch {
    /// Takes a field of bytes that lies between two places in the message.
    #[inline]
    fn add(&mut self, value: Value<'_>, start: usize, end: usize) -> Result<(), Malformed> {
        value.bytes()?;
        if self.start.is_none() {
            self.start = Some(start);
        } else {
            self.is_mixed |= start != self.end;
        }
        self.end = end;
        Ok(())
    }

    /// Returns what comes before and after, when nothing lies between.
    fn around<'a>(&self, message: &'a [u8]) -> Option<[&'a [u8]; 2]> {
        let start = self.start.filter(|_| !self.is_mixed)?;
        Some([message.get(..start)?, message.get(self.end..)?])
    }

    fn of<'a>(&self, message: &'a [u8], tag: u32) -> Repeated<'a> {
        let start = self.start.unwrap_or(self.end);
        Repeated { stretch: message.get(start..self.end).unwrap_or_default(), tag, is_mixed: self.is_mixed }
    }
}

/// An `ExportMetricsServiceRequest`: its `ResourceMetrics`.
pub(super) fn request(body: &[u8]) -> Repeated<'_> {
    Repeated::all(body, 1)
}

/// A `ResourceMetrics`: the `Resource`, in pieces, and the `ScopeMetrics`.
pub(super) fn resource_metrics(message: &[u8]) -> (Repeated<'_>, Repeated<'_>) {
    (Repeated::all(message, 1), Repeated::all(message, 2))
}

/// The attributes of a `Resource`.
pub(super) fn resource_attributes(message: &[u8]) -> Repeated<'_> {
    Repeated::all(message, 1)
}

/// A `ScopeMetrics` with its `InstrumentationScope`.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope<'a> {
    pub(super) name: &'a [u8],
    pub(super) version: &'a [u8],
    pub(super) schema_url: &'a [u8],
    pub(super) attributes: Vec<Pair<'a>>,
    /// What was read but for the metrics.
    pub(super) pieces: Vec<&'a [u8]>,
    pub(super) metrics: Repeated<'a>,
}

impl<'a> Scope<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut scope = Self { metrics: Repeated::all(message, 2), ..Self::default() };
        let mut reader = Reader::new(message);
        while let Some((tag, value)) = reader.next()? {
            match tag {
                1 => {
                    scope.read_scope(value.bytes()?)?;
                    scope.pieces.push(value.bytes()?);
                }
                3 => scope.schema_url = value.bytes()?,
                _ => {}
            }
        }
        scope.pieces.push(scope.schema_url);
        Ok(scope)
    }

    fn read_scope(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(message);
        while let Some((tag, value)) = reader.next()? {
            match tag {
                1 => self.name = value.bytes()?,
                2 => self.version = value.bytes()?,
                3 => self.attributes.push(Pair::read(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a metric's points are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataKind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

impl DataKind {
    fn of(tag: u32) -> Option<Self> {
        match tag {
            5 => Some(Self::Gauge),
            7 => Some(Self::Sum),
            9 => Some(Self::Histogram),
            10 => Some(Self::Exponential),
            11 => Some(Self::Summary),
            _ => None,
        }
    }
}

/// The number of cumulative temporality.
pub(super) const CUMULATIVE: u32 = 2;
/// The number of delta temporality.
pub(super) const DELTA: u32 = 1;

/// A `Metric`.
#[derive(Debug, Clone, Default)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a [u8],
    pub(super) description: &'a [u8],
    pub(super) unit: &'a [u8],
    pub(super) metadata: Repeated<'a>,
    pub(super) kind: Option<DataKind>,
    /// The number of the temporality, 0 for those that have none.
    pub(super) temporality: u32,
    pub(super) is_monotonic: bool,
    /// The message that holds the points; nearly always one piece.
    data: Repeated<'a>,
    /// What comes before and after the data; nothing when other fields lie amid it.
    around: Option<[&'a [u8]; 2]>,
}

/// A metric without its data.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Header<'a> {
    pub(super) pieces: [&'a [u8]; 4],
    /// The pieces are what lies before and after the data, not fields.
    pub(super) is_whole: bool,
}

impl<'a> Metric<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut metric = Self::default();
        let mut metadata = Stretch::default();
        let mut data = Stretch::default();
        let mut data_tag = 0;
        let mut reader = Reader::new(message);
        loop {
            let start = reader.at();
            let Some((tag, value)) = reader.next()? else { break };
            match tag {
                1 => metric.name = value.bytes()?,
                2 => metric.description = value.bytes()?,
                3 => metric.unit = value.bytes()?,
                12 => metadata.add(value, start, reader.at())?,
                5 | 7 | 9 | 10 | 11 => {
                    // Another kind replaces what came before.
                    if tag != data_tag {
                        (data_tag, data) = (tag, Stretch::default());
                    }
                    data.add(value, start, reader.at())?;
                }
                _ => {}
            }
        }
        metric.metadata = metadata.of(message, 12);
        metric.data = data.of(message, data_tag);
        metric.kind = DataKind::of(data_tag);
        metric.around = data.around(message);
        if matches!(metric.kind, Some(DataKind::Sum | DataKind::Histogram | DataKind::Exponential)) {
            metric.read_temporality()?;
        }
        Ok(metric)
    }

    fn read_temporality(&mut self) -> Result<(), Malformed> {
        let mut pieces = self.data.iter();
        while let Some(piece) = pieces.next()? {
            let mut reader = Reader::new(piece);
            while let Some((tag, value)) = reader.next()? {
                match tag {
                    2 => self.temporality = value.uint32()?,
                    3 if self.kind == Some(DataKind::Sum) => self.is_monotonic = value.varint()? != 0,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Returns bytes that, with the kind, tell the metric from those of another name, unit, description or metadata:
    /// all of it but the data, or the fields one by one where that cannot be had in two pieces.
    pub(super) fn header(&self) -> Header<'a> {
        match self.around {
            Some([before, after]) => Header { pieces: [before, after, &[], &[]], is_whole: true },
            None => {
                let pieces = [self.name, self.unit, self.description, self.metadata.stretch()];
                Header { pieces, is_whole: false }
            }
        }
    }

    /// Goes over the points.
    pub(super) fn points(&self) -> Points<'a> {
        Points { pieces: self.data.iter(), points: Repeated::default().iter() }
    }
}

/// Goes over the points of a metric.
#[derive(Debug, Clone)]
pub(super) struct Points<'a> {
    pieces: Messages<'a>,
    points: Messages<'a>,
}

impl<'a> Points<'a> {
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        loop {
            if let Some(point) = self.points.next()? {
                return Ok(Some(point));
            }
            let Some(piece) = self.pieces.next()? else { return Ok(None) };
            self.points = Repeated::all(piece, 1).iter();
        }
    }
}
