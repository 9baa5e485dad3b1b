//! Colours of lines: distinct, readable on both themes, the same each time for the same place.

/// Twelve hues that stay apart for most eyes, in an order that keeps neighbours apart.
const HUES: [(u16, u8); 12] = [
    (221, 78),
    (152, 60),
    (32, 88),
    (340, 74),
    (262, 68),
    (190, 74),
    (48, 84),
    (4, 76),
    (120, 42),
    (290, 52),
    (205, 50),
    (18, 58),
];

/// Returns the colour of the line at `index`. After twelve, the hues come again lighter, then darker.
pub(crate) fn color(index: usize) -> String {
    let (hue, saturation) = HUES[index % HUES.len()];
    let lightness = match (index / HUES.len()) % 3 {
        0 => 58,
        1 => 72,
        _ => 44,
    };
    format!("hsl({hue} {saturation}% {lightness}%)")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn thirty_six_lines_have_thirty_six_colours() {
        assert_eq!((0..36).map(color).collect::<BTreeSet<_>>().len(), 36);
        assert_eq!(color(36), color(0));
    }
}
