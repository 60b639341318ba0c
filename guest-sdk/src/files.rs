//! Files of a resource of kind `directory`.

use crate::host;
use crate::resource::CallError;

/// Adds to the end of a file, which is made if it isn't there. Live: it stays when the transaction
/// is rolled back. The path is relative, and leads to nothing outside of the directory.
///
/// # Errors
///
/// [`CallError`].
pub fn append(resource: &str, path: &str, bytes: &[u8]) -> Result<(), CallError> {
    host::append(resource, path, bytes)
}
