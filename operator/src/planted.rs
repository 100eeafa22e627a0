//! Guards that can be taken out one by one, to prove that a test would miss them.
//!
//! Builds with `--cfg planted` only (`cargo xtask faults`): there the variable `QUORATE_PLANTED`
//! names the one bug that lives. In every other build [`Bug::lives`] is `false` at compile time and
//! nothing of this is left. Which test finds which bug is the fault matrix
//! (`operator/tests/matrix`). Must not know: what the guards protect.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A guard taken out. The number of the hazard it guards against comes first.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];
        }
    };
}

bugs! {
    /// H43: settings that members take while they run are part of the template.
    HotSettingsInTemplate,
    /// H43: nobody looks whether members took the settings.
    SettingsUnconfirmed,
    /// H1, H51: records and status are written over whatever another operator wrote meanwhile.
    RecordWithoutVersion,
    /// H2: the first member is told to bootstrap again on another directory.
    BootstrapAgain,
    /// H3: members are removed although too few others are well.
    RemoveWithoutQuorum,
    /// H4: a new disk gets the ID of the lost one.
    SameIdOnNewDisk,
    /// H5, H11: volumes of an unknown cluster are taken for nobody's.
    ForeignStampIsOurs,
    /// H6: the template knows how many members there are.
    MembersInTemplate,
    /// H7: a membership that merely contains the first member founds the cluster.
    LatchAnyMembership,
    /// H8, H59: a node that does not answer has lost its data.
    TimeoutIsAbsence,
    /// H59: a lost quorum is recovered although nobody asked.
    RecoverUnasked,
    /// H59: a quorum that is missing for a moment is taken for lost.
    RecoverAtOnce,
    /// H59: a new epoch begins while members of the old one may still serve.
    RecoverBesideOthers,
    /// H9: a learner is made a voter before its node was ever seen.
    PromoteUnasked,
    /// H10, H12: a member is added under another ID each time.
    FreshIdOnRetry,
    /// H13: a learner is added next to another.
    TwoLearners,
    /// H14: a learner is made a voter whatever it lacks.
    PromoteWithoutMatch,
    /// H15: a learner may take for ever.
    LearnerForever,
    /// H16: an older membership counts.
    TrustStaleMembership,
    /// H17: a second newcomer does not wait for the first.
    TwoAtOnce,
    /// H18: slots are ordered as texts, so that 9 comes after 10.
    SlotsAsText,
    /// H19: the set is lowered before the member is removed.
    SlotsBeforeMembership,
    /// H20: a slot runs on the volume of a removed member.
    RemovedComesBack,
    /// H21: a request is carried out whenever the object is applied again.
    RequestsRepeat,
    /// H21: a spec that went back is not looked at.
    RevertIsIgnored,
    /// H21: a pass goes on with the spec of an earlier one.
    StoredSpec,
    /// H22: the quorum of the resulting membership is not asked for.
    OldMembershipOnly,
    /// H23: nothing is changed unless everybody is well.
    EverybodyMustBeWell,
    /// H24: from two to one, whoever leads.
    SurvivorNeedNotLead,
    /// H25: a leader that cannot hand over is never removed.
    TransferForever,
    /// H26: the removal of a member that is gone fails.
    NotFoundIsAnError,
    /// H27: a spec that is not valid keeps the object for ever.
    InvalidIsForever,
    /// H27: deletion waits for a quorum.
    DeletionNeedsQuorum,
    /// H29: any volume of this cluster will do for a newcomer.
    AnyVolumeOfOurs,
    /// H30: a claim is deleted while its pod is there.
    ClaimBeforePod,
    /// H31: a pod that is gone takes its member with it.
    PodGoneIsMemberLost,
    /// H32: deletions name no UID but that of whatever is there.
    DeleteWhateverIsThere,
    /// H33: a set that somebody shrank stays small.
    SlotsAreNotRaised,
    /// H34: a member whose machine is gone is replaced although the policy is to report it.
    NodeGoneIsReplaced,
    /// H35: a set that is gone is made as large as the spec says.
    SlotsFromSpec,
    /// H35: the set that is to be made anew takes its pods with it.
    SetTakesItsPods,
    /// H36: a pod is stopped although another is down.
    StopWithoutGate,
    /// H36: a pod is stopped for its volume although another is down.
    RemountWithoutGate,
    /// H37: the budget follows the voters that are left.
    BudgetFollowsTheLiving,
    /// H38: a removed member keeps its label.
    RemovedKeepsItsLabel,
    /// H39: the budget protects pods that are broken.
    BudgetBlocksTheBroken,
    /// H40: liveness asks for a quorum.
    LivenessNeedsQuorum,
    /// H41: pods are started one after the other.
    OneAfterTheOther,
    /// H42: another operator version rolls every cluster.
    OperatorChangeRolls,
    /// H43: the settings are changed in place.
    ConfigInPlace,
    /// H43: what is rendered comes from the newest spec, refused or not.
    RefusedSpecRendered,
    /// H44: a broken pod waits for the others to be well.
    BrokenMustBeWell,
    /// H45: whoever leads is stopped like anybody else.
    LeaderLikeAnybody,
    /// H45: nobody is asked right before a stop.
    StopWithoutAsking,
    /// H46: unready pods are not published.
    HideUnready,
    /// H47: pods begin before the certificates that were asked for.
    BeginWithoutCertificates,
    /// H47: certificates of an authority are handed out before everybody trusts it.
    LeafBeforeTrust,
    /// H47: what somebody brings is not looked at.
    BroughtUnseen,
    /// H48: every cluster's domain is cluster.local.
    DomainIsFixed,
    /// H49, H51: the size is set on whatever set is there.
    SizeWithoutVersion,
    /// H50: a list that failed is an empty one.
    FailedListIsEmpty,
    /// H52: the client repeats calls by itself.
    ClientRetries,
    /// H53: an object that cannot be read is passed over in silence.
    UnreadableIsIgnored,
    /// H54: all clusters wait for the one that is looked at.
    OneClusterAtATime,
    /// H55: the status is written on every pass.
    StatusOnEveryPass,
    /// H56: what was true stays true while nothing can be read.
    StatusOnSuccessOnly,
    /// H57: members are matched with slots by their position in a list.
    HealthByPosition,
    /// H58: what follows the first colon of an image is its tag.
    ImageTakenApart,
    /// H60: a template that somebody edited stays.
    ForeignTemplateStays,
}

impl Bug {
    /// Whether this bug is alive: never, but in builds that prove the tests.
    #[cfg(not(planted))]
    #[must_use]
    pub const fn lives(self) -> bool {
        false
    }

    /// Whether this bug is alive: never, but in builds that prove the tests.
    #[cfg(planted)]
    #[must_use]
    pub fn lives(self) -> bool {
        static ALIVE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let alive = ALIVE.get_or_init(|| std::env::var("QUORATE_PLANTED").ok());
        alive
            .as_ref()
            .is_some_and(|name| *name == format!("{self:?}"))
    }
}
