//! What is probably not meant, and can be seen before the first step.

use burn::module::Module;
use care_core::{Result, Role, Text};
use care_encoders::head::Pooling;
use care_encoders::{AnyEncoder, Network, Tower};

use crate::batcher::{Batcher, TrainBatch};
use crate::collective::Alone;
use crate::config::{CheckedStage, LossKind, TrainMode};
use crate::dataset::Source;
use crate::pass::frozen_vectors;
use crate::stage::StageKind;
use crate::towers::Towers;

/// Queries and documents whose similarities are looked at.
const SAMPLE: usize = 8;
/// The highest similarity over the temperature that unit vectors reach at the lowest usual temperature, 0.01.
const MOST_LOGIT: f64 = 100.0;

/// What the towers, the settings and the rows of a stage give reason to say, from the names of things alone.
pub(crate) fn warnings(
    towers: &Towers,
    stage: &CheckedStage,
    sources: &[Source],
    batcher: &Batcher<'_>,
) -> Vec<String> {
    let mut warnings: Vec<String> = sources.iter().flat_map(Source::warnings).collect();
    if stage.kind != StageKind::SymmetricDocument {
        warnings.extend(no_terminal_token(&towers.query));
    }
    warnings.extend(no_terminal_token(&towers.document));
    let prompted: usize = sources.iter().map(Source::prompted).sum();
    match &stage.prompt_template {
        Some(_) if prompted == 0 => {
            warnings.push("`prompt_template` is set, but no row has a `prompt`: it has no effect".into());
        }
        None if prompted > 0 && stage.kind != StageKind::QueryAlignment => {
            let (tower, instruction) = match stage.kind {
                StageKind::SymmetricDocument => ("document", towers.document.instruction().template()),
                _ => ("query", towers.query.instruction().template()),
            };
            // With an instruction, every query has a task already.
            if instruction.is_empty() {
                warnings.push(format!(
                    "the rows' `prompt` is not used, and the {tower} tower has no instruction; set the stage's \
                     `prompt_template` to use it"
                ));
            }
        }
        _ => {}
    }
    if is_info_nce_alone(stage) && !batcher.has_no_negatives() {
        let lone = batcher.lone_rows().into_iter();
        warnings.extend(lone.map(|name| format!("{name}: a batch of one row has no negative, so its loss is 0")));
    }
    warnings
}

/// Whether the configured losses need negatives, all of them.
pub(crate) fn is_info_nce_alone(stage: &CheckedStage) -> bool {
    !stage.losses().is_empty() && stage.losses().iter().all(|loss| loss.kind == LossKind::InfoNce)
}

/// The state of the last token says little about a text if that token is a word of it.
fn no_terminal_token<T: Text>(tower: &Tower<T, AnyEncoder>) -> Option<String> {
    let is_last = tower.network().head().pooling == Pooling::LastToken;
    (is_last && tower.tokenizer().terminal_token().is_none()).then(|| {
        let role = T::ROLE.as_str();
        format!(
            "the {role} tower takes the last token's state, but its tokenizer ends texts with no special token: the \
             vector is that of the last word; add one in the post-processor of tokenizer.json"
        )
    })
}

/// Warns if the similarities of a batch are so high that a softmax over them is all or nothing: vectors that are not
/// normalised at a temperature for ones that are.
///
/// # Errors
/// Returns an error if a text cannot be tokenized.
pub(crate) fn similarity_warning(towers: &Towers, stage: &CheckedStage, batch: &TrainBatch) -> Result<Option<String>> {
    let temperatures = stage.losses().iter().filter_map(|loss| loss.softmax_temperature());
    let (query_tokenizer, query_network, role) = towers.query_side();
    let (tokenizer, network) = (towers.document.tokenizer(), towers.document.network());
    let is_unit = |network: &Network<AnyEncoder>| network.head().normalize;
    let temperature = temperatures.fold(f64::INFINITY, f64::min);
    if is_unit(query_network) && is_unit(network) || temperature.is_infinite() {
        return Ok(None);
    }
    let group = batch.documents.len() / batch.queries.len();
    let rows = batch.queries.len().min(SAMPLE);
    let prompts: Vec<Option<&String>> = batch.prompts[..rows].iter().map(Option::as_ref).collect();
    let (queries, documents) = (&batch.queries[..rows], &batch.documents[..rows * group]);
    let (queries, documents) = match stage.kind {
        StageKind::QueryAlignment => {
            (towers.prepare_queries(stage, &vec![None; rows], queries), towers.prepare_for_teacher(stage, documents))
        }
        _ => (
            towers.prepare_queries(stage, &prompts, queries),
            towers.prepare_documents(stage, batch.row_type, &prompts, documents),
        ),
    };
    let plain = |network: &Network<AnyEncoder>, role| match stage.mode(role) {
        TrainMode::Frozen => network.clone(),
        TrainMode::Full | TrainMode::Lora => network.valid(),
    };
    let query_ids = query_tokenizer.encode(&queries)?;
    let (queries, _) = frozen_vectors(query_tokenizer, &plain(query_network, role), &query_ids, &Alone)?;
    let document_ids = tokenizer.encode(&documents)?;
    let (documents, _) = frozen_vectors(tokenizer, &plain(network, Role::Document), &document_ids, &Alone)?;
    let highest = f64::from(queries.matmul(documents.transpose()).abs().max().into_scalar::<f32>());
    Ok((highest > 1.5 && highest / temperature > MOST_LOGIT).then(|| {
        format!(
            "similarities reach {highest:.1}, since the towers' vectors are not normalised; over the temperature of \
             {temperature} that is {:.0}, a softmax without a gradient: set `normalize = true` in the towers' options, \
             or a temperature of about {:.1}",
            highest / temperature,
            highest / 20.0
        )
    }))
}
