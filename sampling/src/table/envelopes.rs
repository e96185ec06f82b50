//! Resource and scope envelopes, each distinct one stored once.
//!
//! ```text
//! scope handle --> scope envelope bytes + resource handle --> resource envelope bytes
//! ```
//!
//! Who keeps an envelope alive: each chunk that holds a span of it (counted once per chunk, when the first such span is
//! written: a comparison per span, and nothing at all when a trace is dropped), and a request while it is inserted.
//! Counting per span would touch chunk memory to drop a trace; counting per run would split runs at each scope.
//!
//! The number of scopes is bounded; beyond it the caller stores envelopes beside the span.

use hashbrown::HashTable;

use super::hash::Seed;

/// Most scopes (and so resources) interned at once.
pub(crate) const SCOPES_MAX: usize = 65_536;

/// A scope of a resource, by number. Valid while something holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScopeHandle(pub(crate) u32);

/// The envelopes of a scope and of its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnvelopePair<'a> {
    pub(crate) resource: &'a [u8],
    pub(crate) scope: &'a [u8],
}

/// What a stored span belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SpanScope<'a> {
    /// An interned scope.
    Interned(ScopeHandle),
    /// Envelopes that were too many to intern.
    Inline(EnvelopePair<'a>),
}

/// Where an interned envelope stands in the release being filled.
#[derive(Clone, Copy, Debug, Default)]
struct Released {
    session: u64,
    position: u32,
}

#[derive(Debug, Default)]
struct Resource {
    envelope: Box<[u8]>,
    hash: u64,
    /// Scopes that name it.
    holders: u32,
    released: Released,
}

#[derive(Debug, Default)]
struct Scope {
    envelope: Box<[u8]>,
    hash: u64,
    resource: u32,
    /// Chunks with a span of it, and requests being inserted.
    holders: u32,
    /// The filling of a chunk that counted it last.
    counted_by: u64,
    released: Released,
}

#[derive(Debug)]
pub(crate) struct Envelopes {
    seed: Seed,
    scopes_max: usize,
    resources: Vec<Resource>,
    resources_free: Vec<u32>,
    resources_by_hash: HashTable<u32>,
    scopes: Vec<Scope>,
    scopes_free: Vec<u32>,
    scopes_by_hash: HashTable<u32>,
    /// Bytes of all envelopes.
    envelope_bytes: usize,
}

impl Envelopes {
    pub(crate) fn new(seed: Seed, scopes_max: usize) -> Self {
        Self {
            seed,
            scopes_max,
            resources: Vec::new(),
            resources_free: Vec::new(),
            resources_by_hash: HashTable::new(),
            scopes: Vec::new(),
            scopes_free: Vec::new(),
            scopes_by_hash: HashTable::new(),
            envelope_bytes: 0,
        }
    }

    /// The scope with these envelopes, held once more; `None` if it is new and there are too many.
    pub(crate) fn hold(&mut self, pair: EnvelopePair<'_>) -> Option<ScopeHandle> {
        let EnvelopePair { resource, scope } = pair;
        let resource_hash = self.seed.envelope(0, resource);
        let resources = &self.resources;
        let same = |handle: &u32| *resources[*handle as usize].envelope == *resource;
        let known = self.resources_by_hash.find(resource_hash, same).copied();
        if let Some(resource) = known {
            let hash = self.seed.envelope(resource, scope);
            let scopes = &self.scopes;
            let same = |handle: &u32| {
                let candidate = &scopes[*handle as usize];
                candidate.resource == resource && *candidate.envelope == *scope
            };
            if let Some(handle) = self.scopes_by_hash.find(hash, same).copied() {
                self.scopes[handle as usize].holders += 1;
                return Some(ScopeHandle(handle));
            }
        }
        if self.scopes_by_hash.len() >= self.scopes_max {
            return None;
        }
        let resource = known.unwrap_or_else(|| self.add_resource(resource, resource_hash));
        Some(self.add_scope(resource, scope))
    }

    fn add_resource(&mut self, envelope: &[u8], hash: u64) -> u32 {
        let entry = Resource { envelope: envelope.into(), hash, ..Resource::default() };
        let handle = place(&mut self.resources, &mut self.resources_free, entry);
        let resources = &self.resources;
        self.resources_by_hash.insert_unique(hash, handle, |handle| resources[*handle as usize].hash);
        self.envelope_bytes += envelope.len();
        handle
    }

    fn add_scope(&mut self, resource: u32, envelope: &[u8]) -> ScopeHandle {
        let hash = self.seed.envelope(resource, envelope);
        let entry = Scope { envelope: envelope.into(), hash, resource, holders: 1, ..Scope::default() };
        let handle = place(&mut self.scopes, &mut self.scopes_free, entry);
        let scopes = &self.scopes;
        self.scopes_by_hash.insert_unique(hash, handle, |handle| scopes[*handle as usize].hash);
        self.resources[resource as usize].holders += 1;
        self.envelope_bytes += envelope.len();
        ScopeHandle(handle)
    }

    /// Holds the scope for the given filling of a chunk. False if that filling holds it already.
    #[inline]
    pub(crate) fn hold_for_chunk(&mut self, handle: ScopeHandle, filling: u64) -> bool {
        let scope = &mut self.scopes[handle.0 as usize];
        if scope.counted_by == filling {
            return false;
        }
        scope.counted_by = filling;
        scope.holders += 1;
        true
    }

    /// Ends one hold; the last one frees the scope, and its resource if no other scope names it.
    pub(crate) fn release(&mut self, handle: ScopeHandle) {
        let scope = &mut self.scopes[handle.0 as usize];
        scope.holders -= 1;
        if scope.holders > 0 {
            return;
        }
        let scope = std::mem::take(scope);
        forget(&mut self.scopes_by_hash, &mut self.scopes_free, scope.hash, handle.0);
        self.envelope_bytes -= scope.envelope.len();

        let resource = &mut self.resources[scope.resource as usize];
        resource.holders -= 1;
        if resource.holders > 0 {
            return;
        }
        let resource = std::mem::take(resource);
        forget(&mut self.resources_by_hash, &mut self.resources_free, resource.hash, scope.resource);
        self.envelope_bytes -= resource.envelope.len();
    }

    /// The scope's position in the release of `session`, if it was written there.
    #[inline]
    pub(crate) fn released_scope(&self, handle: ScopeHandle, session: u64) -> Option<u32> {
        self.scopes[handle.0 as usize].released.position_in(session)
    }

    /// The position of the scope's resource in the release of `session`, if it was written there.
    pub(crate) fn released_resource(&self, handle: ScopeHandle, session: u64) -> Option<u32> {
        self.resource(handle).released.position_in(session)
    }

    /// Notes where the scope and its resource stand in the release of `session`.
    pub(crate) fn note_released(&mut self, handle: ScopeHandle, session: u64, resource: u32, scope: u32) {
        let entry = &mut self.scopes[handle.0 as usize];
        entry.released = Released { session, position: scope };
        self.resources[entry.resource as usize].released = Released { session, position: resource };
    }

    pub(crate) fn scope_envelope(&self, handle: ScopeHandle) -> &[u8] {
        &self.scopes[handle.0 as usize].envelope
    }

    pub(crate) fn resource_envelope(&self, handle: ScopeHandle) -> &[u8] {
        &self.resource(handle).envelope
    }

    fn resource(&self, handle: ScopeHandle) -> &Resource {
        &self.resources[self.scopes[handle.0 as usize].resource as usize]
    }

    /// Scopes interned now.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.scopes_by_hash.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.envelope_bytes
            + self.resources.capacity() * size_of::<Resource>()
            + self.scopes.capacity() * size_of::<Scope>()
            + (self.resources_free.capacity() + self.scopes_free.capacity()) * size_of::<u32>()
            + self.resources_by_hash.allocation_size()
            + self.scopes_by_hash.allocation_size()
    }
}

impl Released {
    #[inline]
    fn position_in(self, session: u64) -> Option<u32> {
        (self.session == session).then_some(self.position)
    }
}

fn place<T>(entries: &mut Vec<T>, free: &mut Vec<u32>, entry: T) -> u32 {
    match free.pop() {
        Some(handle) => {
            entries[handle as usize] = entry;
            handle
        }
        None => {
            entries.push(entry);
            entries.len() as u32 - 1
        }
    }
}

fn forget(by_hash: &mut HashTable<u32>, free: &mut Vec<u32>, hash: u64, handle: u32) {
    let found = by_hash.find_entry(hash, |candidate| *candidate == handle);
    let Ok(entry) = found else { unreachable!("every held envelope is in the table under its hash") };
    entry.remove();
    free.push(handle);
}

const _: () = assert!(SCOPES_MAX < u32::MAX as usize, "handles are 32 bits, one value is not a handle");

#[cfg(test)]
mod tests {
    use super::*;

    fn pair<'a>(resource: &'a [u8], scope: &'a [u8]) -> EnvelopePair<'a> {
        EnvelopePair { resource, scope }
    }

    #[test]
    fn equal_envelopes_share_a_handle_and_the_last_holder_frees_them() {
        let mut envelopes = Envelopes::new(Seed::new(1), 3);
        let first = envelopes.hold(pair(b"resource", b"scope")).unwrap();
        assert_eq!(envelopes.hold(pair(b"resource", b"scope")), Some(first));
        let second = envelopes.hold(pair(b"resource", b"other")).unwrap();
        let third = envelopes.hold(pair(b"another", b"scope")).unwrap();
        assert_eq!(envelopes.len(), 3);
        assert_eq!(envelopes.hold(pair(b"resource", b"one too many")), None);
        assert_eq!(envelopes.resource_envelope(second), b"resource");
        assert_eq!(envelopes.scope_envelope(third), b"scope");
        for handle in [first, second, third, first] {
            envelopes.release(handle);
        }
        assert_eq!(envelopes.len(), 0);
        assert_eq!(envelopes.envelope_bytes, 0);
        assert!(envelopes.resources_by_hash.is_empty());
    }

    #[test]
    fn a_chunk_holds_a_scope_once() {
        let mut envelopes = Envelopes::new(Seed::new(1), 3);
        let handle = envelopes.hold(pair(b"", b"")).unwrap();
        assert!(envelopes.hold_for_chunk(handle, 7));
        assert!(!envelopes.hold_for_chunk(handle, 7));
        assert!(envelopes.hold_for_chunk(handle, 8));
        envelopes.release(handle);
        envelopes.release(handle);
        assert_eq!(envelopes.len(), 1);
        envelopes.release(handle);
        assert_eq!(envelopes.len(), 0);
    }
}
