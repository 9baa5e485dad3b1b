//! Merges series that have more than plain samples in some block.

use model::{Exemplar, Labels};
use storage_api::{Error, Result};

use super::series_order;
use crate::block::{BlockCursor, BlockWriter, exemplar_order};
use crate::mixed::Mixed;

/// Samples that are gathered before they are written.
const BATCH_SAMPLES: usize = 4_096;
/// Bytes of histograms at which they are written, however few they are.
const BATCH_BYTES: usize = 1 << 20;

/// A failure, and the place of the cursor that it came from, if it came from one.
type Failure = (Option<usize>, Error);

/// Says whether the series the cursor stands at has histograms or start times.
pub(super) fn has_extras(cursor: &BlockCursor<'_>) -> bool {
    cursor.extras.as_ref().is_some_and(|extras| extras.has_series(cursor.series()))
}

/// Returns the first series, by samples (`least` is the first one there) or by exemplars.
pub(super) fn least_labels(cursors: &mut [BlockCursor<'_>], least: Option<Labels>) -> Result<Option<Labels>, Failure> {
    let mut least = least;
    for (place, cursor) in cursors.iter_mut().enumerate() {
        let Some(extras) = &mut cursor.extras else { continue };
        let Some((labels, _)) = extras.exemplar().map_err(|error| (Some(place), error))? else { continue };
        if least.as_ref().is_none_or(|least| series_order(labels, least).is_lt()) {
            least = Some(labels.clone());
        }
    }
    Ok(least)
}

/// One block's samples of the series, from its numbers and its histograms.
struct Side<'c, 'a> {
    cursor: &'c mut BlockCursor<'a>,
    /// Which number of the batch comes next.
    at: usize,
    /// The time of the next histogram.
    histogram_time: Option<i64>,
}

impl Side<'_, '_> {
    fn find_histogram(&mut self) -> Result<()> {
        let series = self.cursor.series();
        loop {
            self.histogram_time = match &mut self.cursor.extras {
                Some(extras) => extras.histogram_time(series)?,
                None => None,
            };
            let is_deleted = self.histogram_time.is_some_and(|time| self.cursor.is_deleted(time));
            match self.cursor.extras.as_mut().filter(|_| is_deleted) {
                Some(extras) => drop(extras.next_histogram(series)?),
                None => return Ok(()),
            }
            self.cursor.deleted_samples += 1;
        }
    }

    fn next_time(&self) -> Option<i64> {
        let number = self.cursor.batch.0.get(self.at).copied();
        [number, self.histogram_time].into_iter().flatten().min()
    }

    /// Passes over the sample at `time`, and adds it to `out`.
    fn take(&mut self, time: i64, out: Option<&mut Mixed>) -> Result<()> {
        let series = self.cursor.series();
        if self.histogram_time == Some(time) {
            let sample = match &mut self.cursor.extras {
                Some(extras) => extras.next_histogram(series)?,
                None => None,
            };
            if let (Some(sample), Some(out)) = (sample, out) {
                out.push_histogram(sample);
            }
            return self.find_histogram();
        }
        let Some(value) = self.cursor.batch.1.get(self.at).copied() else { return Ok(()) };
        if let Some(out) = out {
            let start_ms = match &mut self.cursor.extras {
                Some(extras) => extras.start_ms(series, time)?,
                None => 0,
            };
            out.push(time, value, start_ms);
        }
        self.pass(1)
    }

    fn pass(&mut self, numbers: usize) -> Result<()> {
        self.at += numbers;
        if self.at >= self.cursor.batch.0.len() {
            self.cursor.next_batch()?;
            self.at = 0;
        }
        Ok(())
    }

    /// Adds the samples up to `limit`, of those in memory: numbers up to the next histogram, or a histogram.
    fn take_run(&mut self, limit: Option<i64>, out: &mut Mixed) -> Result<()> {
        let series = self.cursor.series();
        let ends = [limit, self.histogram_time].into_iter().flatten().min();
        let times = self.cursor.batch.0.get(self.at..).unwrap_or_default();
        let values = self.cursor.batch.1.get(self.at..).unwrap_or_default();
        let count = ends.map_or(times.len(), |end| times.partition_point(|time| *time < end));
        let Some(time) = self.next_time().filter(|_| count == 0) else {
            for (time, value) in times.iter().zip(values).take(count) {
                let start_ms = match &mut self.cursor.extras {
                    Some(extras) => extras.start_ms(series, *time)?,
                    None => 0,
                };
                out.push(*time, *value, start_ms);
            }
            return self.pass(count);
        };
        self.take(time, Some(out))
    }
}

/// Writes one series, at which the cursors in `places` stand with their first batch, and goes on to the next.
pub(super) fn merge_series(
    cursors: &mut [BlockCursor<'_>],
    places: &[usize],
    writer: &mut BlockWriter,
) -> Result<(), Failure> {
    let mut sides = Vec::with_capacity(places.len());
    for (place, cursor) in cursors.iter_mut().enumerate().filter(|(place, _)| places.contains(place)) {
        let mut side = Side { cursor, at: 0, histogram_time: None };
        side.find_histogram().map_err(|error| (Some(place), error))?;
        sides.push((place, side));
    }
    let (mut out, mut bytes) = (Mixed::default(), 0);
    while let Some(time) = sides.iter().filter_map(|(_, side)| side.next_time()).min() {
        // The last one is of the newest block.
        let winner = sides.iter().rposition(|(_, side)| side.next_time() == Some(time));
        let others = sides.iter().enumerate().filter(|(number, _)| Some(*number) != winner);
        let limit = others.filter_map(|(_, (_, side))| side.next_time()).min();
        for (number, (place, side)) in sides.iter_mut().enumerate() {
            let is_winner = Some(number) == winner;
            let taken = match limit {
                // Blocks seldom hold the same times: long runs are of one alone.
                Some(limit) if limit <= time => {
                    let is_there = side.next_time() == Some(time);
                    if is_there { side.take(time, is_winner.then_some(&mut out)) } else { Ok(()) }
                }
                _ if is_winner => side.take_run(limit, &mut out),
                _ => Ok(()),
            };
            taken.map_err(|error| (Some(*place), error))?;
        }
        bytes += out.last_histogram_bytes();
        if out.times.len() >= BATCH_SAMPLES || bytes >= BATCH_BYTES {
            writer.push_mixed(&out).map_err(|error| (None, error))?;
            out.clear();
            bytes = 0;
        }
    }
    writer.push_mixed(&out).map_err(|error| (None, error))?;
    for (place, side) in sides {
        side.cursor.next_series().map_err(|error| (Some(place), error))?;
    }
    Ok(())
}

/// Writes the exemplars of one series.
pub(super) fn merge_exemplars(
    cursors: &mut [BlockCursor<'_>],
    labels: &Labels,
    writer: &mut BlockWriter,
) -> Result<(), Failure> {
    let mut last: Option<Exemplar> = None;
    loop {
        let mut first: Option<(usize, Exemplar)> = None;
        for (place, cursor) in cursors.iter_mut().enumerate() {
            let Some(extras) = &mut cursor.extras else { continue };
            let next = extras.exemplar().map_err(|error| (Some(place), error))?;
            let Some((_, exemplar)) = next.filter(|(of, _)| of == labels) else { continue };
            if first.as_ref().is_none_or(|(_, first)| exemplar_order(exemplar, first).is_lt()) {
                first = Some((place, exemplar.clone()));
            }
        }
        let Some((place, exemplar)) = first else { return Ok(()) };
        if let Some(cursor) = cursors.get_mut(place) {
            if let Some(extras) = cursor.extras.as_mut() {
                extras.next_exemplar().map_err(|error| (Some(place), error))?;
            }
            // A later block may have an equal one, which is not deleted.
            if cursor.is_deleted_exemplar(labels, &exemplar) {
                cursor.deleted_exemplars += 1;
                continue;
            }
        }
        if last.as_ref().is_none_or(|last| exemplar_order(last, &exemplar).is_lt()) {
            writer.push_exemplar(&exemplar).map_err(|error| (None, error))?;
        }
        last = Some(exemplar);
    }
}
