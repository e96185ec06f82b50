//! One generation of a sampler's rules, with what is known of its traces beside the table.
//!
//! ```text
//! rules change:   at hand --still has traces--> others        a new one at hand: new traces are its
//! span arrives:   the generation of its trace comes to hand   (a comparison; they change places only after a change)
//! last trace of an old generation decided and released:       it is forgotten, its number is free
//! ```
//!
//! The idea: a trace carries the number of its generation, two bits, and everything that depends on the settings lies here;
//! so the table, its chunks and the memory of decisions outlive every change. There are four at most.

use codecs::otlp::SpanIndex;

use crate::keys::Keys;
use crate::marks::Writes;
use crate::policy::{Conditions, Rules, Triggers};
use crate::rates::SharedRates;
use crate::settings::Settings;
use crate::sizes::Sizes;

/// Settings that rule a sampler, and what belongs to their policies.
#[derive(Clone, Copy, Debug)]
pub struct Rulebook<'a> {
    /// The policies, and when they decide.
    pub settings: &'a Settings,
    /// One for each policy, in their order: under which it is counted, and remembered in decisions. One that was used for a
    /// policy is not used for another one while the sampler lives.
    pub numbers: &'a [u16],
    /// Made for these settings; see [`SharedRates::following`].
    pub rates: &'a SharedRates,
}

/// What the traces that began under the same settings have in common.
#[derive(Debug)]
pub(crate) struct Generation {
    /// In the records of its traces.
    pub(crate) number: u8,
    /// How often rules had changed before.
    pub(crate) revision: u32,
    /// Its traces in the table: undecided, and kept ones that are still to be released.
    pub(crate) traces: u64,
    pub(crate) decision_wait_ns: u64,
    pub(crate) decision_wait_after_root_ns: Option<u64>,
    /// Anybody asks when a trace's root span came.
    pub(crate) asks_for_root: bool,
    pub(crate) trace_bytes_max: u64,
    pub(crate) rules: Rules,
    /// When a decision may have become certain, if early ones are made now.
    pub(crate) triggers: Triggers,
    /// The same if they are made at all, and whether they are however much memory is free.
    triggers_early: Triggers,
    pub(crate) always_early: bool,
    pub(crate) may_keep_early: bool,
    /// What kept spans are marked with.
    pub(crate) writes: Writes,
    pub(crate) sizes: Sizes,
    pub(crate) keys: Keys,
    /// What each resource of the request that is being inserted answers, if policies ask about resources.
    pub(crate) resources: Vec<Conditions>,
}

impl Generation {
    pub(crate) fn new(book: Rulebook<'_>, number: u8, revision: u32, giant_bytes: u64) -> Self {
        let Rulebook { settings, numbers, rates } = book;
        let rules = Rules::numbered(settings, numbers, rates);
        // A trace that may still grow too large is not certain to be kept.
        let may_keep_early = settings.trace_bytes_max.is_none();
        // A later span can lower a threshold though the outcome stands: counts from early ones would be biased.
        let may_be_early = !settings.write_threshold;
        let triggers_early = if may_be_early { rules.triggers(may_keep_early) } else { Triggers::default() };
        let always_early = settings.decide_when_certain;
        Self {
            number,
            revision,
            traces: 0,
            decision_wait_ns: settings.decision_wait_ns,
            decision_wait_after_root_ns: settings.decision_wait_after_root_ns,
            asks_for_root: settings.decision_wait_after_root_ns.is_some() || settings.complete_quiet_ns.is_some(),
            trace_bytes_max: settings.trace_bytes_max.unwrap_or(u64::MAX),
            triggers: if always_early { triggers_early } else { Triggers::default() },
            triggers_early,
            always_early,
            may_keep_early,
            writes: Writes::of(settings),
            sizes: Sizes::new(settings.trace_bytes_max.is_some() || rules.ask_for_bytes(), giant_bytes),
            keys: Keys::new(settings),
            resources: Vec::new(),
            rules,
        }
    }

    /// Decides what is certain early, if its settings do not say so anyway, or no longer.
    pub(crate) fn press(&mut self, is_certain_decided: bool) {
        let is_early = self.always_early || is_certain_decided;
        self.triggers = if is_early { self.triggers_early } else { Triggers::default() };
    }

    /// A request begins: its resources are asked once for all its spans.
    pub(crate) fn begin_request(&mut self, index: &SpanIndex) {
        self.keys.begin_request(index);
        self.resources.clear();
        if self.rules.ask_about_resources() {
            let resources = index.resources.iter().map(|range| self.rules.look_into_resource(index.envelope(*range)));
            self.resources.extend(resources);
        }
    }

    /// A trace begins in this slot.
    #[inline]
    pub(crate) fn begin(&mut self, slot: u32) {
        self.traces += 1;
        self.sizes.begin(slot);
        if self.keys.are_kept() {
            self.keys.begin(slot);
        }
    }

    /// What the resource of a scope answers; nothing if nobody asks.
    pub(crate) fn resource_conditions(&self, index: &SpanIndex, scope: u32) -> Conditions {
        let resource = index.scopes[scope as usize].resource as usize;
        self.resources.get(resource).copied().unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.sizes.bytes()
            + self.keys.bytes()
            + self.rules.bytes()
            + self.resources.capacity() * size_of::<Conditions>()
    }
}
