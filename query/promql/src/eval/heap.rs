//! The heap of `topk` and its like, which decides ties as Prometheus' does.

/// Values with the places of their series; the one that goes first is at the root. NaN goes before all.
pub(super) struct Heap {
    items: Vec<(f64, usize)>,
    /// Whether the smallest goes first.
    smallest: bool,
}

impl Heap {
    pub(super) fn new(smallest: bool) -> Self {
        Self { items: Vec::new(), smallest }
    }

    /// Returns values in the order in which they come, only to be sorted.
    pub(super) fn of(values: impl Iterator<Item = f64>, smallest: bool) -> Self {
        Self { items: values.enumerate().map(|(place, value)| (value, place)).collect(), smallest }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    fn before(&self, i: usize, j: usize) -> bool {
        let (a, b) = (self.items[i].0, self.items[j].0);
        a.is_nan() || if self.smallest { a < b } else { a > b }
    }

    pub(super) fn push(&mut self, value: f64, place: usize) {
        self.items.push((value, place));
        let mut at = self.items.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.before(at, parent) {
                break;
            }
            self.items.swap(at, parent);
            at = parent;
        }
    }

    /// Adds a value, or puts it in the place of the root where there are `most` already and it is better.
    pub(super) fn offer(&mut self, value: f64, place: usize, most: usize) {
        if self.items.len() < most {
            self.push(value, place);
            return;
        }
        let root = self.items[0].0;
        let better = if self.smallest { root < value } else { root > value };
        if better || (root.is_nan() && !value.is_nan()) {
            self.items[0] = (value, place);
            self.sink();
        }
    }

    fn sink(&mut self) {
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= self.items.len() {
                break;
            }
            if child + 1 < self.items.len() && self.before(child + 1, child) {
                child += 1;
            }
            if !self.before(child, at) {
                break;
            }
            self.items.swap(at, child);
            at = child;
        }
    }

    /// Returns the places as they lie.
    pub(super) fn places(self) -> Vec<usize> {
        self.items.into_iter().map(|(_, place)| place).collect()
    }

    /// Returns the places, the best first and NaN last.
    pub(super) fn sorted(mut self) -> Vec<usize> {
        /// Up to here Go sorts by insertion, which decides what becomes of equal values.
        const INSERTION_MAX: usize = 12;
        if self.items.len() > INSERTION_MAX {
            let smallest = self.smallest;
            self.items.sort_by(|(a, _), (b, _)| {
                let order = a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()));
                if smallest || a.is_nan() || b.is_nan() { order.reverse() } else { order }
            });
            return self.places();
        }
        for i in 1..self.items.len() {
            for j in (1..=i).rev() {
                if !self.before(j - 1, j) {
                    break;
                }
                self.items.swap(j - 1, j);
            }
        }
        self.places()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(values: &[f64], most: usize, smallest: bool) -> Vec<usize> {
        let mut heap = Heap::new(smallest);
        for (place, value) in values.iter().enumerate() {
            heap.offer(*value, place, most);
        }
        heap.sorted()
    }

    #[test]
    fn the_best_come_first_and_nan_last() {
        assert_eq!(top(&[1.0, 3.0, f64::NAN, 2.0], 2, true), [1, 3]);
        assert_eq!(top(&[1.0, 3.0, f64::NAN, 2.0], 2, false), [0, 3]);
        assert_eq!(top(&[1.0, 3.0, f64::NAN, 2.0], 9, true), [1, 3, 0, 2]);
        let many: Vec<f64> = (0..20).map(|i| if i == 7 { f64::NAN } else { f64::from(i) }).collect();
        assert_eq!(top(&many, 20, true)[..3], [19, 18, 17]);
        assert_eq!(top(&many, 20, true)[19], 7);
        assert_eq!(top(&many, 20, false)[..3], [0, 1, 2]);
        assert_eq!(top(&many, 20, false)[19], 7);
    }
}
