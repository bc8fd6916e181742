//! The table of named tasks. A new one is a row here.

use care_core::Result;

use super::mini;
use crate::task::Task;

/// A row of the table.
pub(super) struct NamedTask {
    pub(super) name: &'static str,
    pub(super) origin: Origin,
}

/// Where the data of a task come from.
pub(super) enum Origin {
    /// This crate.
    BuiltIn(fn(&str) -> Result<Task>),
    /// A data set of the Hugging Face hub.
    Hub(HubSet),
    /// A folder of this name, as there is no public copy.
    Folder { main_score: Option<&'static str> },
}

/// A data set of the Hugging Face hub under its ids, the preferred first, each pinned: `org/name@commit`.
pub(super) struct HubSet {
    ids: &'static [&'static str],
    /// The split to evaluate.
    pub(super) split: &'static str,
    pub(super) main_score: &'static str,
}

const fn hub(
    name: &'static str,
    ids: &'static [&'static str],
    split: &'static str,
    main_score: &'static str,
) -> NamedTask {
    NamedTask { name, origin: Origin::Hub(HubSet { ids, split, main_score }) }
}

const fn folder(name: &'static str, main_score: Option<&'static str>) -> NamedTask {
    NamedTask { name, origin: Origin::Folder { main_score } }
}

const fn built_in(name: &'static str, build: fn(&str) -> Result<Task>) -> NamedTask {
    NamedTask { name, origin: Origin::BuiltIn(build) }
}

/// Revisions are those pinned by mteb: 2.26 for its own copies, 1.x for C-MTEB's originals.
pub(super) const TASKS: [NamedTask; 11] = [
    built_in("mini-retrieval", mini::retrieval),
    built_in("mini-retrieval-dev", mini::retrieval_dev),
    built_in("mini-reranking", mini::reranking),
    built_in("mini-sts", mini::sts),
    folder("CMedTEB-retrieval", Some("ndcg@10")),
    folder("CMedTEB-reranking", Some("map@10")),
    folder("CMedTEB-sts", None),
    hub(
        "CmedqaRetrieval",
        &[
            "mteb/CmedqaRetrieval@c476f85bf03d6642ec66bf54b9a551c88108bbb4",
            "C-MTEB/CmedqaRetrieval@cd540c506dae1cf9e9a59c3e06f42030d54e7301",
        ],
        "dev",
        "ndcg@10",
    ),
    hub(
        "MedicalRetrieval",
        &[
            "mteb/MedicalRetrieval@023ae3b2c6b96f583c4ff9b3f9239c93f7885c20",
            "C-MTEB/MedicalRetrieval@2039188fb5800a9803ba5048df7b76e6fb151fc6",
        ],
        "dev",
        "ndcg@10",
    ),
    hub(
        "CMedQAv1-reranking",
        &[
            "mteb/CMedQAv1-reranking@f77f0345c9b6ac0a2447a3a71483d5b27393cb35",
            "C-MTEB/CMedQAv1-reranking@8d7f1e942507dac42dc58017c1a001c3717da7df",
        ],
        "test",
        "map@1000",
    ),
    hub(
        "CMedQAv2-reranking",
        &[
            "mteb/CMedQAv2-reranking@01399b6956a4c6bf9edc5b6b90e176aeeb399686",
            "C-MTEB/CMedQAv2-reranking@23d186750531a14a0357ca22cd92d712fd512ea0",
        ],
        "test",
        "map@1000",
    ),
];

impl NamedTask {
    /// The pinned id and the data set, if `id` is one of this row's at whatever revision.
    pub(super) fn set_of(&self, id: &str) -> Option<(&'static str, &HubSet)> {
        let Origin::Hub(set) = &self.origin else { return None };
        let pinned = set.ids.iter().find(|pinned| repository(pinned) == repository(id))?;
        Some((pinned, set))
    }
}

impl HubSet {
    /// The pinned id of the preferred copy.
    pub(super) fn id(&self) -> &'static str {
        self.ids[0]
    }
}

/// `org/name` of `org/name@revision`.
pub(super) fn repository(id: &str) -> &str {
    id.split('@').next().unwrap_or(id)
}
