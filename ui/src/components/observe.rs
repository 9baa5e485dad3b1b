//! Follows the size of an element.

use leptos::html::ElementType;
use leptos::prelude::*;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::closure::Closure;
use web_sys::ResizeObserver;

/// Returns the width and height of an element in pixels; zero before it is there.
pub(crate) fn observe_size<E>(node: NodeRef<E>) -> RwSignal<(f64, f64)>
where
    E: ElementType + 'static,
    E::Output: AsRef<web_sys::Element> + wasm_bindgen::JsCast + Clone + 'static,
{
    let size = RwSignal::new((0.0, 0.0));
    let kept = StoredValue::new_local(None::<(ResizeObserver, Closure<dyn FnMut()>)>);
    Effect::new(move |_| {
        let Some(element) = node.get() else { return };
        let element: web_sys::Element = AsRef::<web_sys::Element>::as_ref(&element).clone();
        let measured = element.clone();
        let measure = move || {
            let now = (f64::from(measured.client_width()), f64::from(measured.client_height()));
            if size.try_get_untracked().is_some_and(|old| old != now) {
                size.set(now);
            }
        };
        measure();
        let callback = Closure::<dyn FnMut()>::new(measure);
        match ResizeObserver::new(callback.as_ref().unchecked_ref()) {
            Ok(observer) => {
                observer.observe(&element);
                kept.set_value(Some((observer, callback)));
            }
            Err(_) => leptos::logging::warn!("the browser cannot observe sizes; charts keep theirs"),
        }
    });
    on_cleanup(move || {
        if let Some(Some((observer, _))) = kept.try_update_value(Option::take) {
            observer.disconnect();
        }
    });
    size
}
