//! From values to pixels and back.

/// Maps a domain to a range of pixels, evenly or by logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    domain: (f64, f64),
    pixels: (f64, f64),
    is_log: bool,
}

/// The least value that a logarithmic axis shows; what is below sits on the axis.
const LOG_FLOOR: f64 = 1e-12;

impl Scale {
    /// An even scale. A domain without length maps to the middle.
    pub(crate) fn linear(domain: (f64, f64), pixels: (f64, f64)) -> Self {
        Self { domain, pixels, is_log: false }
    }

    /// A logarithmic scale.
    pub(crate) fn log(domain: (f64, f64), pixels: (f64, f64)) -> Self {
        let low = domain.0.max(LOG_FLOOR);
        Self { domain: (low, domain.1.max(low)), pixels, is_log: true }
    }

    fn warp(&self, value: f64) -> f64 {
        if self.is_log { value.max(LOG_FLOOR).log10() } else { value }
    }

    /// Returns the pixel of `value`; values outside the domain give pixels outside the range.
    pub(crate) fn pixel(&self, value: f64) -> f64 {
        let (low, high) = (self.warp(self.domain.0), self.warp(self.domain.1));
        let length = high - low;
        let share = if length == 0.0 { 0.5 } else { (self.warp(value) - low) / length };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Returns the value at `pixel`.
    pub(crate) fn value(&self, pixel: f64) -> f64 {
        let length = self.pixels.1 - self.pixels.0;
        let share = if length == 0.0 { 0.5 } else { (pixel - self.pixels.0) / length };
        let (low, high) = (self.warp(self.domain.0), self.warp(self.domain.1));
        let value = low + share * (high - low);
        if self.is_log { 10_f64.powf(value) } else { value }
    }
}

/// Returns the least and greatest finite value, or nothing when there is none.
pub(crate) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|v| v.is_finite())
        .fold(None, |extent, v| Some(extent.map_or((v, v), |(low, high): (f64, f64)| (low.min(v), high.max(v)))))
}

/// Returns the domain that shows `extent` well: zero included when it is near, some room above, never without length.
pub(crate) fn value_domain(extent: Option<(f64, f64)>, is_log: bool, from_zero: bool) -> (f64, f64) {
    let Some((low, high)) = extent else { return (0.0, 1.0) };
    if is_log {
        let high = if high > 0.0 { high } else { 1.0 };
        let low = if low > 0.0 { low.min(high / 10.0) } else { high / 1e4 };
        return (low, high * 1.2);
    }
    let length = high - low;
    // A line that never leaves 98 to 99 should fill the chart; one between 1 and 99 should stand on zero.
    let near_zero = low >= 0.0 && (from_zero || low <= length * 2.0);
    let near_zero_below = high <= 0.0 && (from_zero || -high <= length * 2.0);
    if length <= high.abs().max(low.abs()) * 1e-12 {
        let room = if high == 0.0 { 1.0 } else { high.abs() * 0.5 };
        return if high >= 0.0 && from_zero { (0.0, high + room) } else { (low - room, high + room) };
    }
    let room = length * 0.06;
    match (near_zero, near_zero_below) {
        (true, _) => (0.0, high + high * 0.06),
        (_, true) => (low + low * 0.06, 0.0),
        _ => (low - room, high + room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_and_values_are_inverse() {
        for scale in [Scale::linear((10.0, 20.0), (100.0, 0.0)), Scale::log((0.1, 1e6), (300.0, 20.0))] {
            for value in [10.0, 12.5, 19.9] {
                assert!((scale.value(scale.pixel(value)) - value).abs() < 1e-6);
            }
        }
        assert_eq!(Scale::linear((0.0, 10.0), (0.0, 100.0)).pixel(2.5), 25.0);
    }

    #[test]
    fn a_domain_without_length_maps_to_the_middle() {
        assert_eq!(Scale::linear((5.0, 5.0), (0.0, 100.0)).pixel(5.0), 50.0);
        assert_eq!(Scale::linear((0.0, 1.0), (7.0, 7.0)).value(7.0), 0.5);
    }

    #[test]
    fn zero_and_negative_values_have_a_place_on_a_log_axis() {
        let scale = Scale::log((-5.0, 0.0), (0.0, 100.0));
        assert!(scale.pixel(-1.0).is_finite() && scale.pixel(0.0).is_finite());
    }

    #[test]
    fn extents_leave_out_what_is_not_finite() {
        assert_eq!(extent([f64::NAN, 3.0, f64::INFINITY, -1.0]), Some((-1.0, 3.0)));
        assert_eq!(extent([f64::NAN]), None);
    }

    #[test]
    fn domains_stand_on_zero_when_it_is_near() {
        assert_eq!(value_domain(Some((1.0, 100.0)), false, false), (0.0, 106.0));
        let (low, high) = value_domain(Some((98.0, 99.0)), false, false);
        assert!(low > 97.0 && low < 98.0 && high > 99.0);
        assert_eq!(value_domain(Some((98.0, 99.0)), false, true).0, 0.0);
        assert_eq!(value_domain(Some((-100.0, -1.0)), false, false).1, 0.0);
    }

    #[test]
    fn flat_lines_and_no_lines_have_a_domain_with_length() {
        for extent in [None, Some((0.0, 0.0)), Some((5.0, 5.0)), Some((-5.0, -5.0)), Some((1e300, 1e300))] {
            for (is_log, from_zero) in [(false, false), (false, true), (true, false)] {
                let (low, high) = value_domain(extent, is_log, from_zero);
                assert!(low < high, "{extent:?} {is_log} {from_zero}: {low} {high}");
            }
        }
    }
}
