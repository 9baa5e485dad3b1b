//! The entry point that the browser loads: mounts the app.

fn main() {
    ui::mount();
}
