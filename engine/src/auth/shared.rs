//! A value that the control thread may replace and every shard reads.
//!
//! The one idea: a number counts the replacements. A shard keeps its own handle of the value and compares one number per
//! use; the lock is taken only after a replacement.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Largest file with credentials.
const FILE_BYTES_MAX: u64 = 1 << 20;

type Read<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// See the module. Cloning shares it.
pub(super) struct Shared<T>(Arc<Inner<T>>);

struct Inner<T> {
    /// How to read the value again; `None` if it cannot change.
    read: Option<Read<T>>,
    replacements: AtomicU64,
    value: Mutex<Arc<T>>,
}

/// One shard's handle. Cloning shares it within the shard.
pub(super) struct View<T>(Rc<Seen<T>>);

struct Seen<T> {
    source: Arc<Inner<T>>,
    replacements: Cell<u64>,
    value: RefCell<Arc<T>>,
}

impl<T: PartialEq> Shared<T> {
    /// A value that stays.
    pub(super) fn fixed(value: T) -> Shared<T> {
        Shared::with(value, None)
    }

    /// A value that is read now and whenever [`Shared::read_again`] is called.
    pub(super) fn from_files(
        read: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Shared<T>, String> {
        let value = read()?;
        Ok(Shared::with(value, Some(Box::new(read))))
    }

    fn with(value: T, read: Option<Read<T>>) -> Shared<T> {
        let inner = Inner { read, replacements: AtomicU64::new(0), value: Mutex::new(Arc::new(value)) };
        Shared(Arc::new(inner))
    }

    pub(super) fn can_change(&self) -> bool {
        self.0.read.is_some()
    }

    /// Reads the value again. Returns whether it has changed.
    pub(super) fn read_again(&self) -> Result<bool, String> {
        let Some(read) = &self.0.read else { return Ok(false) };
        let fresh = read()?;
        let mut value = self.0.value.lock().unwrap_or_else(PoisonError::into_inner);
        if **value == fresh {
            return Ok(false);
        }
        *value = Arc::new(fresh);
        // After the value: who sees the number finds the value.
        self.0.replacements.fetch_add(1, Ordering::Release);
        Ok(true)
    }

    /// A handle for one shard.
    pub(super) fn view(&self) -> View<T> {
        let replacements = self.0.replacements.load(Ordering::Acquire);
        let value = Arc::clone(&self.0.value.lock().unwrap_or_else(PoisonError::into_inner));
        let source = Arc::clone(&self.0);
        View(Rc::new(Seen { source, replacements: Cell::new(replacements), value: RefCell::new(value) }))
    }
}

impl<T> View<T> {
    /// The value in force, and how often it was replaced before.
    pub(super) fn latest(&self) -> (Arc<T>, u64) {
        let seen = &*self.0;
        let replacements = seen.source.replacements.load(Ordering::Acquire);
        if replacements != seen.replacements.get() {
            let value = seen.source.value.lock().unwrap_or_else(PoisonError::into_inner);
            seen.value.replace(Arc::clone(&value));
            seen.replacements.set(replacements);
        }
        (Arc::clone(&seen.value.borrow()), replacements)
    }
}

impl<T> Clone for View<T> {
    fn clone(&self) -> View<T> {
        View(Rc::clone(&self.0))
    }
}

// What is shared is secret.
impl<T> std::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl<T> std::fmt::Debug for View<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// The text of a file with credentials. The error names the file, never what is in it.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read;

    let failed =
        |what: &dyn std::fmt::Display| format!("cannot read {}: {what}; check path and rights", path.display());
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(&format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8"))
}
