//! A B+tree of [`Entry`]s that counts, per subtree, the living keys and those with something to
//! compact. No parent pointers and no unsafe code: changes go down by recursion and bring the
//! difference of the counts back up.
//!
//! Caveat: a node that became small is merged with a neighbour when both fit into one, but never
//! refilled from a large one; so nodes may be a quarter full in the worst case.

use super::{Entry, Version};
use std::ops::ControlFlow;

/// Entries of a leaf, at most.
const LEAF_MAX: usize = 64;
/// Children of an inner node, at most.
const INNER_MAX: usize = 64;
/// Leaves grow by so many entries: little memory lies idle, and few growths are needed.
const LEAF_GROWTH: usize = 8;

/// What a visit looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Every entry.
    All,
    /// Keys that exist now.
    Live,
    /// Keys that have something to compact.
    Stale,
}

#[derive(Debug)]
enum Node {
    Leaf(Vec<Entry>),
    Inner(Vec<Subtree>),
}

/// A node with what its parent keeps about it.
#[derive(Debug)]
struct Subtree {
    /// At or below every key in it and above every key before it. Ignored for the first child.
    low: Box<[u8]>,
    live: usize,
    stale: usize,
    node: Node,
}

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    root: Subtree,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: Subtree::new(Box::default(), Node::Leaf(Vec::new())),
        }
    }
}

/// What a change did to the counts of the nodes above it.
#[derive(Clone, Copy, Default)]
struct Delta {
    live: isize,
    stale: isize,
}

impl Delta {
    /// From what an entry was (if it existed) to what it is (if it still does).
    fn between(before: Option<(bool, bool)>, after: Option<(bool, bool)>) -> Self {
        let (live_before, stale_before) = before.unwrap_or_default();
        let (live, stale) = after.unwrap_or_default();
        Self {
            live: isize::from(live) - isize::from(live_before),
            stale: isize::from(stale) - isize::from(stale_before),
        }
    }
}

fn state(entry: &Entry) -> (bool, bool) {
    (entry.is_alive(), entry.is_stale())
}

impl Tree {
    pub(super) fn live(&self) -> usize {
        self.root.live
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let mut node = &self.root.node;
        loop {
            match node {
                Node::Leaf(entries) => return find(entries, key).ok().map(|at| &entries[at]),
                Node::Inner(children) => node = &children[child_of(children, key)].node,
            }
        }
    }

    /// Adds the version that `make` makes to `key`, which may be new; the version before.
    pub(super) fn upsert(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&Version>) -> Version,
    ) -> Option<Version> {
        let mut before = None;
        let (_, split) = self.root.upsert(key, |latest| {
            before = latest.copied();
            make(latest)
        });
        if let Some(right) = split {
            let empty = Subtree::new(Box::default(), Node::Leaf(Vec::new()));
            let left = std::mem::replace(&mut self.root, empty);
            self.root = Subtree::new(Box::default(), Node::Inner(vec![left, right]));
        }
        before
    }

    /// Changes the entry of `key`, if there is one; `change` returns true to remove it.
    pub(super) fn edit(&mut self, key: &[u8], change: impl FnOnce(&mut Entry) -> bool) {
        self.root.edit(key, change);
        // A root with one child is that child.
        loop {
            match &mut self.root.node {
                Node::Inner(children) if children.len() == 1 => {
                    if let Some(only) = children.pop() {
                        self.root = only;
                    }
                }
                Node::Inner(_) | Node::Leaf(_) => break,
            }
        }
    }

    pub(super) fn visit(
        &self,
        from: &[u8],
        want: Want,
        visit: &mut impl FnMut(&Entry) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.root.visit(Some(from), want, visit)
    }

    pub(super) fn visit_back(
        &self,
        before: Option<&[u8]>,
        want: Want,
        visit: &mut impl FnMut(&Entry) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.root.visit_back(before, want, visit)
    }

    /// Living keys below `key`.
    pub(super) fn live_before(&self, key: &[u8]) -> usize {
        let mut node = &self.root.node;
        let mut before = 0;
        loop {
            match node {
                Node::Leaf(entries) => {
                    let end = find(entries, key).unwrap_or_else(|at| at);
                    return before + entries[..end].iter().filter(|e| e.is_alive()).count();
                }
                Node::Inner(children) => {
                    let at = child_of(children, key);
                    before += children[..at].iter().map(|child| child.live).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }
}

/// Where `key` is among `entries`, or where it would be.
fn find(entries: &[Entry], key: &[u8]) -> Result<usize, usize> {
    entries.binary_search_by(|entry| entry.key().cmp(key))
}

/// Which child holds `key`, if any does.
fn child_of(children: &[Subtree], key: &[u8]) -> usize {
    children[1..].partition_point(|child| child.low.as_ref() <= key)
}

impl Subtree {
    fn new(low: Box<[u8]>, node: Node) -> Self {
        let mut subtree = Self {
            low,
            live: 0,
            stale: 0,
            node,
        };
        subtree.recount();
        subtree
    }

    fn recount(&mut self) {
        (self.live, self.stale) = match &self.node {
            Node::Leaf(entries) => (
                entries.iter().filter(|entry| entry.is_alive()).count(),
                entries.iter().filter(|entry| entry.is_stale()).count(),
            ),
            Node::Inner(children) => (
                children.iter().map(|child| child.live).sum(),
                children.iter().map(|child| child.stale).sum(),
            ),
        };
    }

    fn add(&mut self, delta: Delta) {
        self.live = self
            .live
            .checked_add_signed(delta.live)
            .expect("a child's count fits in ours");
        self.stale = self
            .stale
            .checked_add_signed(delta.stale)
            .expect("a child's count fits in ours");
    }

    /// Number of entries or children.
    fn len(&self) -> usize {
        match &self.node {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(children) => children.len(),
        }
    }

    /// Whether no entry is left in it.
    fn is_hollow(&self) -> bool {
        match &self.node {
            Node::Leaf(entries) => entries.is_empty(),
            Node::Inner(children) => children.iter().all(Self::is_hollow),
        }
    }

    /// Adds a version; a node that became too large hands back its right half. The delta covers
    /// both halves.
    fn upsert(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&Version>) -> Version,
    ) -> (Delta, Option<Self>) {
        let (delta, split) = match &mut self.node {
            Node::Leaf(entries) => match find(entries, key) {
                Ok(at) => {
                    let entry = &mut entries[at];
                    let before = state(entry);
                    let version = make(Some(&entry.latest));
                    entry.push(version);
                    (Delta::between(Some(before), Some(state(entry))), None)
                }
                Err(at) => {
                    let entry = Entry::new(key, make(None));
                    let delta = Delta::between(None, Some(state(&entry)));
                    (delta, insert_entry(entries, at, entry))
                }
            },
            Node::Inner(children) => {
                let at = child_of(children, key);
                let (delta, split) = children[at].upsert(key, make);
                (
                    delta,
                    split.and_then(|right| insert_child(children, at + 1, right)),
                )
            }
        };
        self.add(delta);
        if let Some(right) = &split {
            self.live -= right.live;
            self.stale -= right.stale;
        }
        (delta, split)
    }

    fn edit(&mut self, key: &[u8], change: impl FnOnce(&mut Entry) -> bool) -> Delta {
        let delta = match &mut self.node {
            Node::Leaf(entries) => match find(entries, key) {
                Err(_) => Delta::default(),
                Ok(at) => {
                    let before = state(&entries[at]);
                    if change(&mut entries[at]) {
                        entries.remove(at);
                        Delta::between(Some(before), None)
                    } else {
                        Delta::between(Some(before), Some(state(&entries[at])))
                    }
                }
            },
            Node::Inner(children) => {
                let at = child_of(children, key);
                let delta = children[at].edit(key, change);
                merge_small(children, at);
                delta
            }
        };
        self.add(delta);
        delta
    }

    fn has(&self, want: Want) -> bool {
        match want {
            Want::All => true,
            Want::Live => self.live > 0,
            Want::Stale => self.stale > 0,
        }
    }

    /// In order; `from` is none once we are past it.
    fn visit(
        &self,
        from: Option<&[u8]>,
        want: Want,
        visit: &mut impl FnMut(&Entry) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match &self.node {
            Node::Leaf(entries) => {
                let start = from.map_or(0, |from| find(entries, from).unwrap_or_else(|at| at));
                entries[start..].iter().try_for_each(visit)
            }
            Node::Inner(children) => {
                let start = from.map_or(0, |from| child_of(children, from));
                let mut from = from;
                for child in &children[start..] {
                    if child.has(want) {
                        child.visit(from, want, visit)?;
                    }
                    from = None;
                }
                ControlFlow::Continue(())
            }
        }
    }

    /// In reverse order; `before` is none once we are past it.
    fn visit_back(
        &self,
        before: Option<&[u8]>,
        want: Want,
        visit: &mut impl FnMut(&Entry) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match &self.node {
            Node::Leaf(entries) => {
                let end = before.map_or(entries.len(), |before| {
                    find(entries, before).unwrap_or_else(|at| at)
                });
                entries[..end].iter().rev().try_for_each(visit)
            }
            Node::Inner(children) => {
                let last = before.map_or(children.len() - 1, |key| child_of(children, key));
                let mut before = before;
                for child in children[..=last].iter().rev() {
                    if child.has(want) {
                        child.visit_back(before, want, visit)?;
                    }
                    before = None;
                }
                ControlFlow::Continue(())
            }
        }
    }
}

/// Inserts an entry; a full leaf hands back its right part.
fn insert_entry(entries: &mut Vec<Entry>, at: usize, entry: Entry) -> Option<Subtree> {
    if entries.len() < LEAF_MAX {
        if entries.len() == entries.capacity() {
            entries.reserve_exact(LEAF_GROWTH);
        }
        entries.insert(at, entry);
        return None;
    }
    // Keys that arrive in order would leave a trail of half-full leaves: begin a new one instead.
    if at == LEAF_MAX {
        return Some(Subtree::new(entry.key().into(), Node::Leaf(vec![entry])));
    }
    let mut right = Vec::with_capacity(LEAF_MAX / 2 + LEAF_GROWTH);
    right.extend(entries.drain(LEAF_MAX / 2..));
    if at <= entries.len() {
        entries.insert(at, entry);
    } else {
        right.insert(at - entries.len(), entry);
    }
    entries.shrink_to(LEAF_MAX / 2 + LEAF_GROWTH);
    Some(Subtree::new(right[0].key().into(), Node::Leaf(right)))
}

/// Inserts a child; a full node hands back its right part.
fn insert_child(children: &mut Vec<Subtree>, at: usize, child: Subtree) -> Option<Subtree> {
    children.insert(at, child);
    if children.len() <= INNER_MAX {
        return None;
    }
    // As with leaves: growth at the right end leaves full nodes behind.
    let keep = if at == INNER_MAX {
        INNER_MAX
    } else {
        INNER_MAX / 2
    };
    let right = children.split_off(keep);
    Some(Subtree::new(right[0].low.clone(), Node::Inner(right)))
}

/// Drops the child `at` if it is empty; if it is small, merges it with a neighbour that has room.
fn merge_small(children: &mut Vec<Subtree>, at: usize) {
    if children.len() == 1 {
        return;
    }
    if children[at].is_hollow() {
        children.remove(at);
        return;
    }
    let (small, roomy) = match &children[at].node {
        Node::Leaf(_) => (LEAF_MAX / 4, LEAF_MAX * 3 / 4),
        Node::Inner(_) => (INNER_MAX / 4, INNER_MAX * 3 / 4),
    };
    if children[at].len() >= small {
        return;
    }
    let fits = |left: usize| children[left].len() + children[left + 1].len() <= roomy;
    let left = match at.checked_sub(1) {
        Some(left) if fits(left) => left,
        _ if at + 1 < children.len() && fits(at) => at,
        _ => return,
    };
    let Subtree {
        low,
        live,
        stale,
        node,
    } = children.remove(left + 1);
    let into = &mut children[left];
    into.live += live;
    into.stale += stale;
    match (&mut into.node, node) {
        (Node::Leaf(left), Node::Leaf(right)) => {
            left.reserve_exact(right.len());
            left.extend(right);
        }
        (Node::Inner(left), Node::Inner(mut right)) => {
            // The first child's own bound was ignored so far, and keys below it may have come.
            right[0].low = low;
            left.append(&mut right);
        }
        (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
            unreachable!("all leaves lie equally deep")
        }
    }
}
