//! Which ENI obeys which policy, in the maps: compiles what changed, switches, takes back.
//!
//! ENIs with the same set of groups share one policy. Whatever changes (a rule, a prefix list, who
//! is member of a group), a new policy is compiled beside the old one, written whole, and then each
//! ENI is switched to it by one store: no packet is judged by a mix. New and old share the parts of
//! their trees that are equal, so that a change writes little. It decides nothing about packets.

mod regroup;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use branchline_common::{
    flow::FlowKey,
    maps::POLICIES,
    policy::{AUDITED, Policy as Entry},
};

use crate::{
    datapath::{Datapath, DatapathError},
    policy::{
        self, CompileError, KeptPage, Mark, Networks, Page, Policy, Rest, Resting, RuleBook, Rules,
        Trees,
    },
    security_groups::{Directory, Member, MemberChange, Members, Peer, SecurityGroup},
    state::{RuleStore, StateError},
};

/// Why ENIs cannot obey what they should; they go on obeying what they did.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A group that an ENI has does not exist.
    #[error("no security group {group_id} is known; apply a file that defines it")]
    UnknownGroup {
        /// Its id.
        group_id: String,
    },
    /// The groups cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// All policies are taken.
    #[error("all {} compiled policies are taken; give tasks the same set of groups", POLICIES - 1)]
    Full,
    /// The change could not be made to outlive the agent.
    #[error("keep the security groups in the store")]
    Store(#[from] StateError),
    /// A map refused.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// A set of groups that ENIs have, by id and sorted.
type GroupSet = Vec<String>;

/// A policy that ENIs obey.
#[derive(Debug)]
struct Active {
    index: u32,
    policy: Policy,
    users: BTreeSet<u32>,
}

/// All policies of this host.
#[derive(Debug)]
pub struct Policies {
    directory: Arc<Directory>,
    members: Members,
    cut_on_revoke: bool,
    trees: Trees,
    active: BTreeMap<GroupSet, Active>,
    free: Vec<u32>,
    resting: Rest,
    /// Policies of an earlier agent, which ENIs may still obey.
    earlier: BTreeSet<u32>,
    generation: u32,
    /// No generation up to this one is given out by the next agent.
    reserved: u32,
    book: RuleBook,
    /// Where the book is kept, unless it need not outlive the agent.
    store: Option<Arc<RuleStore>>,
}

/// Generations that are reserved at once, so that few changes have to write it.
const RESERVED: u32 = 1_024;

/// What an ENI's connections are judged by again after a change, once every program that still
/// read the old policies is through.
#[derive(Debug, Default, Clone)]
#[must_use = "to be handed to `Policies::settle` after a grace period"]
pub struct Unsettled {
    /// ENIs whose connections that the new rules would not let be opened are to be ended.
    revoking: BTreeSet<u32>,
    /// ENIs that a group in audit mode had: connections of it that no rule allows are to be ended
    /// where none has now.
    audited: BTreeSet<u32>,
    resting: Option<(Resting, Mark)>,
    no_earlier: bool,
}

impl Unsettled {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        let Self {
            revoking,
            audited,
            resting,
            no_earlier,
        } = self;
        revoking.is_empty() && audited.is_empty() && resting.is_none() && !no_earlier
    }

    /// What the policies of an earlier agent leave over once nobody obeys them.
    pub(crate) fn of_earlier() -> Self {
        Self {
            no_earlier: true,
            ..Self::default()
        }
    }

    /// What both leave over; `later` was left after `self`.
    pub fn and(mut self, later: Self) -> Self {
        self.revoking.extend(later.revoking);
        self.audited.extend(later.audited);
        self.resting = later.resting.or(self.resting);
        self.no_earlier |= later.no_earlier;
        self
    }
}

/// A compiled policy that no ENI obeys yet.
struct Prepared {
    set: GroupSet,
    policy: Policy,
}

impl Policies {
    /// The policies of an agent that starts. `used` are entries that ENIs obey by the maps: what an
    /// earlier agent compiled stays untouched until they obey new ones.
    ///
    /// # Errors
    /// `Datapath` if the maps cannot be read.
    pub fn restore(
        datapath: &Datapath,
        directory: Directory,
        members: Members,
        cut_on_revoke: bool,
        used: &BTreeSet<u32>,
    ) -> Result<Self, DatapathError> {
        let taken = datapath.taken_by(used)?;
        let generation = datapath.generation()?;
        let free = (1..POLICIES).rev();
        Ok(Self {
            directory: Arc::new(directory),
            members,
            cut_on_revoke,
            trees: Trees::beside(taken),
            active: BTreeMap::new(),
            free: free.filter(|index| !used.contains(index)).collect(),
            resting: Rest::default(),
            earlier: used.clone(),
            generation,
            reserved: generation,
            book: RuleBook::default(),
            store: None,
        })
    }

    /// Keeps the rule book in `store` from now on, and takes up the one that an earlier agent left
    /// there; `obeyed` is the policy's entry of each slot by the maps. To be called before anything
    /// is compiled.
    ///
    /// # Errors
    /// `Store` or `Datapath`.
    pub fn keep_book_in(
        &mut self,
        datapath: &Datapath,
        store: Arc<RuleStore>,
        obeyed: &BTreeMap<u32, u32>,
    ) -> Result<(), PolicyError> {
        let (pages, rules) = store.rule_pages::<KeptPage, Rules>()?;
        let (kept, forgotten) = policy::usable(pages, rules, self.reserved);
        if !forgotten.is_nothing() {
            store.forget_rule_pages(&forgotten.generations, &forgotten.rules)?;
        }
        let generation = |(slot, index): (&u32, &u32)| {
            Ok::<_, DatapathError>((*slot, datapath.policy(*index)?.generation))
        };
        let obeyed = obeyed.iter().map(generation).collect::<Result<_, _>>()?;
        self.book.take_up(kept, obeyed, datapath.control()?.epoch);
        self.store = Some(store);
        Ok(())
    }

    /// Whether the agent ends the connections of removed rules where no group says otherwise.
    #[must_use]
    pub fn cut_on_revoke(&self) -> bool {
        self.cut_on_revoke
    }

    /// The groups and prefix lists in force.
    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Who carries which group.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The sets of groups that ENIs have, and the slots of these ENIs.
    pub fn sets(&self) -> impl Iterator<Item = (&[String], &BTreeSet<u32>)> {
        let sets = self.active.iter();
        sets.map(|(set, active)| (set.as_slice(), &active.users))
    }

    /// The policy that the ENI in `slot` obeys.
    #[must_use]
    pub fn of_slot(&self, slot: u32) -> Option<&Policy> {
        let mut policies = self.active.values();
        let active = policies.find(|active| active.users.contains(&slot))?;
        Some(&active.policy)
    }

    /// The rules of every policy that a connection may have been opened under.
    #[must_use]
    pub fn rule_book(&self) -> &RuleBook {
        &self.book
    }

    /// The trees that all policies are in.
    #[must_use]
    pub fn trees(&self) -> &Trees {
        &self.trees
    }

    /// The policy for the ENI in `slot`, which has `groups`: compiled if no ENI has this set yet.
    /// The caller writes it into the ENI. The ENI leaves the policy that it obeyed before.
    ///
    /// # Errors
    /// Each variant; nothing has changed then.
    pub fn join(
        &mut self,
        datapath: &mut Datapath,
        slot: u32,
        groups: &[String],
    ) -> Result<u32, PolicyError> {
        let set = group_set(groups);
        if !self.active.contains_key(&set) {
            let policy = {
                let directory = Arc::clone(&self.directory);
                let members = std::mem::take(&mut self.members);
                let networks = &mut Networks::of(&directory, &members);
                let compiled = self.compile(datapath, &set, &directory, networks);
                self.members = members;
                compiled?
            };
            let entered = self.write_trees(datapath);
            let index = match entered.and_then(|()| self.enter(datapath, &policy)) {
                Ok(index) => index,
                Err(error) => {
                    policy::release(&mut self.trees, &policy.entry);
                    return Err(error);
                }
            };
            if let Err(error) = self.keep([&policy]) {
                self.give_up(index, &policy.entry);
                return Err(error);
            }
            let active = Active {
                index,
                policy,
                users: BTreeSet::new(),
            };
            self.active.insert(set.clone(), active);
        }
        self.remove_user(slot);
        let Some(active) = self.active.get_mut(&set) else {
            return Err(PolicyError::Full);
        };
        active.users.insert(slot);
        self.book.obey([slot], active.policy.entry.generation);
        Ok(active.index)
    }

    /// The ENI in `slot` obeys no policy any more, and nothing is counted of it.
    /// [`Policies::drop_unused`] frees those that nobody obeys.
    pub fn leave(&mut self, slot: u32) {
        self.book.leave(slot);
        self.remove_user(slot);
    }

    fn remove_user(&mut self, slot: u32) {
        for active in self.active.values_mut() {
            active.users.remove(&slot);
        }
    }

    /// Gives up policies that no ENI obeys.
    pub fn drop_unused(&mut self) -> Unsettled {
        let unused: Vec<GroupSet> = self
            .active
            .iter()
            .filter(|(_, active)| active.users.is_empty())
            .map(|(set, _)| set.clone())
            .collect();
        for set in unused {
            if let Some(active) = self.active.remove(&set) {
                self.give_up(active.index, &active.policy.entry);
            }
        }
        self.unsettled(BTreeSet::new(), BTreeSet::new())
    }

    /// No ENI obeys a policy of an earlier agent any more.
    pub fn drop_earlier(&mut self) -> Unsettled {
        self.book.retire_earlier();
        self.drop_unused().and(Unsettled::of_earlier())
    }

    /// Puts other groups and prefix lists in force. `commit` is called when all is written and
    /// kept, and before the first ENI obeys it: where the change is made to outlive the agent.
    ///
    /// # Errors
    /// Each variant; nothing has changed then, but what `commit` did.
    pub fn set_directory(
        &mut self,
        datapath: &mut Datapath,
        directory: Directory,
        commit: impl FnOnce() -> Result<(), PolicyError>,
    ) -> Result<Unsettled, PolicyError> {
        let changed = changed_ids(&self.directory, &directory);
        let depends = |set: &GroupSet| {
            depends(set, &self.directory, &changed) || depends(set, &directory, &changed)
        };
        let affected = self.active.keys().filter(|set| depends(set));
        let affected: Vec<GroupSet> = affected.cloned().collect();
        let members = std::mem::take(&mut self.members);
        let networks = &mut Networks::of(&directory, &members);
        let prepared = self.prepare(affected, |policies, set| {
            policies.compile(datapath, set, &directory, networks)
        });
        self.members = members;
        let unsettled = self.put_in_force(datapath, prepared?, &directory, commit)?;
        self.directory = Arc::new(directory);
        Ok(unsettled)
    }

    /// Says what the ENI `eni_id` is to the groups, `None` for no member, and puts that in force.
    ///
    /// # Errors
    /// Each variant; nothing has changed then.
    pub fn set_member(
        &mut self,
        datapath: &mut Datapath,
        eni_id: &str,
        member: Option<Member>,
    ) -> Result<Unsettled, PolicyError> {
        let directory = Arc::clone(&self.directory);
        let mut members = std::mem::take(&mut self.members);
        let (before, changes) = members.replace(eni_id, member);
        let affected = self.active.iter();
        let affected = affected.filter(|(_, active)| active.policy.refers_to(&changes));
        let affected = affected.map(|(set, _)| set.clone()).collect();
        let networks = &mut Networks::of(&directory, &members);
        let prepared = self.prepare(affected, |policies, set| {
            policies.follow(datapath, set, networks, &changes)
        });
        let unsettled = prepared
            .and_then(|prepared| self.put_in_force(datapath, prepared, &directory, || Ok(())));
        if unsettled.is_err() {
            members.replace(eni_id, before);
        }
        self.members = members;
        unsettled
    }

    /// The policies of `affected` as `compile` makes each of them.
    fn prepare(
        &mut self,
        affected: Vec<GroupSet>,
        mut compile: impl FnMut(&mut Self, &GroupSet) -> Result<Policy, PolicyError>,
    ) -> Result<Vec<Prepared>, PolicyError> {
        let mut prepared: Vec<Prepared> = Vec::new();
        for set in affected {
            match compile(self, &set) {
                Ok(policy) => prepared.push(Prepared { set, policy }),
                Err(error) => {
                    self.abandon(&prepared);
                    return Err(error);
                }
            }
        }
        Ok(prepared)
    }

    /// Lets ENIs obey `prepared`, made of `directory`, once all of it is written.
    fn put_in_force(
        &mut self,
        datapath: &mut Datapath,
        prepared: Vec<Prepared>,
        directory: &Directory,
        commit: impl FnOnce() -> Result<(), PolicyError>,
    ) -> Result<Unsettled, PolicyError> {
        let mut entered = Vec::new();
        let written = self.write_trees(datapath).and_then(|()| {
            for each in &prepared {
                entered.push(self.enter(datapath, &each.policy)?);
            }
            // What the numbers mean is kept before any connection can hold one.
            self.keep(prepared.iter().map(|each| &each.policy))?;
            commit()
        });
        if let Err(error) = written {
            self.abandon(&prepared);
            entered
                .into_iter()
                .for_each(|index| self.resting.push(index));
            return Err(error);
        }
        self.switch(datapath, prepared, &entered, directory)
    }

    /// Lets every ENI of `prepared` obey its new policy.
    fn switch(
        &mut self,
        datapath: &mut Datapath,
        prepared: Vec<Prepared>,
        entered: &[u32],
        directory: &Directory,
    ) -> Result<Unsettled, PolicyError> {
        for (done, (each, index)) in prepared.iter().zip(entered).enumerate() {
            let Some(active) = self.active.get(&each.set) else {
                continue;
            };
            let generation = each.policy.entry.generation;
            self.book.obey(active.users.iter().copied(), generation);
            if let Err(error) = datapath.switch_policy(&active.users, *index) {
                // Back to where they were; what cannot be switched back is said by the same error.
                for back in prepared.iter().take(done + 1) {
                    if let Some(active) = self.active.get(&back.set) {
                        let generation = active.policy.entry.generation;
                        self.book.obey(active.users.iter().copied(), generation);
                        datapath.switch_policy(&active.users, active.index)?;
                    }
                }
                self.abandon(&prepared);
                entered.iter().for_each(|index| self.resting.push(*index));
                return Err(error.into());
            }
        }
        let (mut revoking, mut audited) = (BTreeSet::new(), BTreeSet::new());
        for (each, index) in prepared.into_iter().zip(entered) {
            let Some(active) = self.active.get_mut(&each.set) else {
                continue;
            };
            if active.policy.entry.audits() {
                audited.extend(&active.users);
            }
            if cuts(&each.set, directory, self.cut_on_revoke) {
                revoking.extend(&active.users);
            }
            let old = (active.index, active.policy.entry);
            active.index = *index;
            active.policy = each.policy;
            self.give_up(old.0, &old.1);
        }
        Ok(self.unsettled(revoking, audited))
    }

    /// After a grace period: connections that are revoked end, and what nobody obeys may be used
    /// again. Returns how many connections ended.
    ///
    /// # Errors
    /// `Datapath`.
    pub fn settle(
        &mut self,
        datapath: &mut Datapath,
        unsettled: &Unsettled,
    ) -> Result<u32, DatapathError> {
        if let Some((trees, indices)) = unsettled.resting {
            self.trees.rested(trees);
            self.free.extend(self.resting.wake(indices));
        }
        if unsettled.no_earlier {
            self.trees.reclaim();
            self.free.extend(std::mem::take(&mut self.earlier));
        }
        if unsettled.revoking.is_empty() && unsettled.audited.is_empty() {
            return Ok(0);
        }
        let mut revoked: Vec<FlowKey> = Vec::new();
        datapath.flow_tables().each_connection(|key, connection| {
            let slot = u32::from(key.eni);
            let was_audited = connection.tracking.rule == AUDITED;
            let is_judged = unsettled.revoking.contains(&slot)
                || (was_audited && unsettled.audited.contains(&slot));
            let admits = |policy: &Policy| {
                policy::still_admits(&self.trees, &policy.entry, key, &connection.tracking)
            };
            if is_judged && !self.of_slot(slot).is_some_and(admits) {
                revoked.push(*key);
            }
        })?;
        datapath.end_connections(&revoked)
    }

    fn compile(
        &mut self,
        datapath: &mut Datapath,
        set: &GroupSet,
        directory: &Directory,
        networks: &mut Networks<'_>,
    ) -> Result<Policy, PolicyError> {
        let groups = groups_of(set, directory)?;
        let generation = self.next_generation(datapath)?;
        let mut policy = policy::compile(&mut self.trees, &groups, networks)?;
        policy.entry.generation = generation;
        policy.numbered_at = generation;
        Ok(policy)
    }

    /// The policy of `set`, which ENIs obey, after `changes` of members.
    fn follow(
        &mut self,
        datapath: &mut Datapath,
        set: &GroupSet,
        networks: &mut Networks<'_>,
        changes: &BTreeMap<String, MemberChange>,
    ) -> Result<Policy, PolicyError> {
        let generation = self.next_generation(datapath)?;
        let Some(active) = self.active.get(set) else {
            return Ok(Policy::default());
        };
        let followed = policy::with_members(&mut self.trees, &active.policy, networks, changes);
        let mut policy = followed.map_err(|source| CompileError::NoRoom {
            groups: set.clone(),
            source,
        })?;
        policy.entry.generation = generation;
        Ok(policy)
    }

    fn next_generation(&mut self, datapath: &mut Datapath) -> Result<u32, DatapathError> {
        if self.generation == self.reserved {
            let reserved = self.reserved.wrapping_add(RESERVED);
            datapath.reserve_generations(reserved)?;
            self.reserved = reserved;
        }
        self.generation = self.generation.wrapping_add(1);
        Ok(self.generation)
    }

    /// Writes all that compiled policies refer to.
    fn write_trees(&mut self, datapath: &mut Datapath) -> Result<(), PolicyError> {
        let writes = self.trees.unwritten();
        datapath.write_trees(&writes)?;
        self.trees.written(&writes);
        Ok(())
    }

    /// Writes a policy, what it refers to being written; no ENI obeys it yet.
    fn enter(&mut self, datapath: &mut Datapath, policy: &Policy) -> Result<u32, PolicyError> {
        let index = self.free.pop().ok_or(PolicyError::Full)?;
        if let Err(error) = datapath.write_policy(index, &policy.entry) {
            self.free.push(index);
            return Err(error.into());
        }
        let page = Page {
            rules: Arc::clone(&policy.rules),
            kept: KeptPage {
                numbered_at: policy.numbered_at,
                epoch: datapath.control()?.epoch,
            },
        };
        self.book.enter(policy.entry.generation, page);
        Ok(index)
    }

    /// Makes what the rules' numbers mean outlive the agent. No ENI obeys these policies yet.
    fn keep<'a>(&self, policies: impl IntoIterator<Item = &'a Policy>) -> Result<(), PolicyError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let policies = policies.into_iter();
        let generations: Vec<u32> = policies.map(|policy| policy.entry.generation).collect();
        if generations.is_empty() {
            return Ok(());
        }
        let pages = self.book.pages_of(&generations);
        let is_first = |(generation, page): &&(u32, Page)| page.kept.numbered_at == *generation;
        let rules = pages.iter().filter(is_first);
        let rules: Vec<_> = rules
            .map(|(generation, page)| (*generation, Arc::clone(&page.rules)))
            .collect();
        let pages: Vec<_> = pages
            .iter()
            .map(|(generation, page)| (*generation, page.kept))
            .collect();
        Ok(store.put_rule_pages(&pages, &rules)?)
    }

    fn abandon(&mut self, prepared: &[Prepared]) {
        for each in prepared {
            self.book.retire(each.policy.entry.generation);
            policy::release(&mut self.trees, &each.policy.entry);
        }
    }

    fn give_up(&mut self, index: u32, entry: &Entry) {
        self.book.retire(entry.generation);
        policy::release(&mut self.trees, entry);
        self.resting.push(index);
    }

    fn unsettled(&self, revoking: BTreeSet<u32>, audited: BTreeSet<u32>) -> Unsettled {
        let is_settled = self.trees.is_settled() && self.resting.is_empty();
        Unsettled {
            revoking,
            audited,
            resting: (!is_settled).then(|| (self.trees.resting(), self.resting.mark())),
            no_earlier: false,
        }
    }
}

/// Whether a change of what a set of groups allows ends the connections that it would not let be
/// opened: if one of its groups asks for it, or the agent does and not every group forbids it.
pub(crate) fn cuts(set: &[String], directory: &Directory, by_default: bool) -> bool {
    let of_group = |id: &String| {
        let group = directory.groups.get(id);
        group.and_then(|group| group.cut_on_revoke)
    };
    let wishes: Vec<Option<bool>> = set.iter().map(of_group).collect();
    wishes.contains(&Some(true)) || (by_default && wishes.iter().any(Option::is_none))
}

fn group_set(groups: &[String]) -> GroupSet {
    let set: BTreeSet<&String> = groups.iter().collect();
    set.into_iter().cloned().collect()
}

fn groups_of<'a>(
    set: &[String],
    directory: &'a Directory,
) -> Result<Vec<&'a SecurityGroup>, PolicyError> {
    let find = |group_id: &String| {
        let group = directory.groups.get(group_id);
        group.ok_or_else(|| PolicyError::UnknownGroup {
            group_id: group_id.clone(),
        })
    };
    set.iter().map(find).collect()
}

/// Whether the policy of a set of groups can differ when the groups and lists in `changed` do.
pub(crate) fn depends(set: &[String], directory: &Directory, changed: &BTreeSet<String>) -> bool {
    let groups = set.iter().filter_map(|id| directory.groups.get(id));
    let refers = |peer: &Peer| match peer {
        Peer::Cidr(_) => false,
        Peer::PrefixList(id) => changed.contains(id),
        Peer::Group(group) => changed.contains(&group.group_id),
    };
    set.iter().any(|id| changed.contains(id))
        || groups
            .flat_map(|group| &group.rules)
            .any(|rule| refers(&rule.peer))
}

/// Groups and prefix lists that are not the same in both.
pub(crate) fn changed_ids(old: &Directory, new: &Directory) -> BTreeSet<String> {
    let mut changed = BTreeSet::new();
    differing(&old.groups, &new.groups, &mut changed);
    differing(&old.prefix_lists, &new.prefix_lists, &mut changed);
    changed
}

fn differing<T: PartialEq>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    changed: &mut BTreeSet<String>,
) {
    let ids = old.keys().chain(new.keys());
    changed.extend(ids.filter(|id| old.get(*id) != new.get(*id)).cloned());
}
