//! What is to run, kept beside the catalogue: a text per service, replaced whole.
//!
//! The lake does not know what is in it; `control` does. Rows of our own in the catalogue's file, so
//! that a copy of one file has both what was seen and what was wanted.

use crate::catalogue::CatalogueError;
use crate::lake::{Lake, LakeError, locked};

impl Lake {
    /// Name and text of every service, by name.
    pub fn services(&self) -> Result<Vec<(String, String)>, LakeError> {
        Ok(locked(&self.inner.catalogue).services()?)
    }

    /// Writes the text of a service, or forgets it; durable when this returns.
    pub fn keep_service(&self, name: &str, text: Option<&str>) -> Result<(), LakeError> {
        let kept = locked(&self.inner.catalogue).keep_service(name, text);
        if kept.as_ref().is_err_and(CatalogueError::is_durability) {
            self.inner.poison();
        }
        Ok(kept?)
    }
}
