//! Which rows of a long list are drawn.

/// The rows to draw, as a half open range of indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first row.
    pub first: usize,
    /// The row after the last.
    pub end: usize,
}

/// Rows drawn above and below what can be seen, so that a quick scroll shows no gap.
const OVERSCAN: usize = 12;
/// Windows start at multiples of this, so that a small scroll redraws nothing.
const STRIDE: usize = 8;

/// Returns the rows to draw when `scroll_top` pixels are above the edge of a view of `height` pixels.
pub(crate) fn visible(scroll_top: f64, height: f64, row_height: f64, rows: usize) -> Window {
    if row_height <= 0.0 || !height.is_finite() {
        return Window { first: 0, end: 0 };
    }
    // Casts saturate, so a scroll position from rubber banding (below zero) is row 0.
    let top = (scroll_top / row_height).floor() as usize;
    let seen = (height / row_height).ceil() as usize + 1;
    let first = top.saturating_sub(OVERSCAN).min(rows) / STRIDE * STRIDE;
    let end = top.saturating_add(seen + OVERSCAN + STRIDE).min(rows);
    Window { first: first.min(end), end }
}

/// Returns where to scroll so that `row` can be seen; nothing when it can be already.
pub(crate) fn scroll_to(row: usize, scroll_top: f64, height: f64, row_height: f64) -> Option<f64> {
    let top = row as f64 * row_height;
    if top < scroll_top {
        Some(top)
    } else if top + row_height > scroll_top + height {
        Some(top + row_height - height)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_always_drawn() {
        for rows in [0, 1, 7, 50, 100_000] {
            for top in [0.0, 3.0, 999.0, 1_999_980.0] {
                let window = visible(top, 600.0, 20.0, rows);
                assert!(window.first <= window.end && window.end <= rows);
                assert!(window.end - window.first <= 30 + 1 + 2 * (OVERSCAN + STRIDE));
                for row in [(top / 20.0) as usize, ((top + 599.0) / 20.0) as usize] {
                    assert!(row >= rows || (window.first <= row && row < window.end), "{rows} {top} {row} {window:?}");
                }
            }
        }
    }

    #[test]
    fn odd_measures_draw_nothing_or_the_start() {
        assert_eq!(visible(0.0, 600.0, 0.0, 10), Window { first: 0, end: 0 });
        assert_eq!(visible(-50.0, 600.0, 20.0, 10), Window { first: 0, end: 10 });
        assert_eq!(visible(f64::NAN, 600.0, 20.0, 10).first, 0);
        assert!(visible(f64::INFINITY, 600.0, 20.0, 10).end <= 10);
    }

    #[test]
    fn scrolling_moves_no_further_than_needed() {
        assert_eq!(scroll_to(5, 0.0, 200.0, 20.0), None);
        assert_eq!(scroll_to(20, 0.0, 200.0, 20.0), Some(220.0));
        assert_eq!(scroll_to(2, 100.0, 200.0, 20.0), Some(40.0));
    }
}
