//! Gives out the files of the store, to be linked elsewhere.

use std::path::Path;

use storage_api::Result;

use crate::metadata;
use crate::store::MetricStore;
use crate::tombstones::{DAMAGED_FILE, TOMBSTONES_FILE};

impl MetricStore {
    /// Calls `each` with the folder of every block and with every file beside them. They belong together, and none of them
    /// is changed or removed until this returns; what is in the head is not among them.
    ///
    /// # Errors
    /// The first one of `each`, which ends it.
    pub fn each_file(&self, each: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
        let _deleting = self.deleting.lock();
        let _removing = self.removing.read();
        let view = self.snapshot();
        let damaged = view.damaged.iter().map(|damaged| damaged.name);
        for name in view.blocks.iter().map(|block| block.name()).chain(damaged) {
            each(&self.dir.join(name.to_string()))?;
        }
        for name in [metadata::FILE, TOMBSTONES_FILE, DAMAGED_FILE] {
            let path = self.dir.join(name);
            if path.exists() {
                each(&path)?;
            }
        }
        Ok(())
    }
}
