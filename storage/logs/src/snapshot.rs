//! Gives out the files of the store, to be linked elsewhere.

use std::path::Path;

use storage_api::Result;

use crate::LogStore;
use crate::deletes::DELETES_FILE;

impl LogStore {
    /// Calls `each` with the list of deletes and the folder of every block, damaged ones included. None of them is changed or removed until this
    /// returns; what is in the head is not among them.
    ///
    /// # Errors
    /// The first one of `each`, which ends it.
    pub fn each_file(&self, each: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
        // The list first: what it says of a block may go as soon as the block was written anew.
        let deletes = self.dir.join(DELETES_FILE);
        if deletes.exists() {
            each(&deletes)?;
        }
        // A block's folder stays as long as somebody holds the block.
        let state = self.state.read().clone();
        for block in &state.blocks {
            each(block.dir())?;
        }
        for name in &state.damaged {
            let path = self.dir.join(name);
            if path.exists() {
                each(&path)?;
            }
        }
        Ok(())
    }
}
