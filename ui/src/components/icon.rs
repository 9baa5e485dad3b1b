//! Line icons, drawn as SVG.

use leptos::prelude::*;

/// The icons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glyph {
    /// The product's mark.
    Mark,
    /// A clock.
    Clock,
    /// An arrow in a circle.
    Refresh,
    /// Half light, half dark.
    Theme,
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// Downwards.
    Down,
    /// Further away.
    ZoomOut,
    /// A cross.
    Close,
    /// A plus.
    Plus,
    /// A minus.
    Minus,
    /// Start.
    Play,
    /// Pause.
    Pause,
    /// Two sheets.
    Copy,
    /// A question mark.
    Help,
    /// A sign of warning.
    Alert,
    /// A done mark.
    Check,
}

/// Draws an icon at the size of the text around it.
#[component]
pub(crate) fn Icon(
    /// Which one.
    glyph: Glyph,
) -> impl IntoView {
    let path = match glyph {
        Glyph::Mark => "M4 4h9a3 3 0 0 1 3 3v13H7a3 3 0 0 1-3-3zM16 9h4v11h-4M8 14l2-3 2 2 1-2",
        Glyph::Clock => "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M12 7v5l3 2",
        Glyph::Refresh => "M20 12a8 8 0 1 1-2.5-5.8M20 3v4h-4",
        Glyph::Theme => "M12 3a9 9 0 1 0 0 18zM12 3v18a9 9 0 0 0 0-18",
        Glyph::Left => "M15 5l-7 7 7 7",
        Glyph::Right => "M9 5l7 7-7 7",
        Glyph::Down => "M5 9l7 7 7-7",
        Glyph::ZoomOut => "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13M15.5 15.5L20 20M8 10.5h5",
        Glyph::Close => "M6 6l12 12M18 6L6 18",
        Glyph::Plus => "M12 5v14M5 12h14",
        Glyph::Minus => "M5 12h14",
        Glyph::Play => "M7 5l12 7-12 7z",
        Glyph::Pause => "M8 5v14M16 5v14",
        Glyph::Copy => "M9 9h11v11H9zM5 15H4V4h11v1",
        Glyph::Help => {
            "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18M9.5 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M12 16.5v.5"
        }
        Glyph::Alert => "M12 4l9 16H3zM12 10v4M12 17v.3",
        Glyph::Check => "M5 12.5l4.5 4.5L19 7.5",
    };
    view! {
        <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
            <path d=path></path>
        </svg>
    }
}
