//! The tokens of every row, for batches under a token budget.

use care_core::{Result, Role};
use care_data::rows::TrainingExample;

use crate::batcher::{Batcher, RowTokens, Together};
use crate::config::{CheckedStage, TrainMode};
use crate::stage::StageKind;
use crate::towers::Towers;

/// Rows that are in memory together.
const ROWS: usize = 1024;

/// The most tokens that the trained towers read of each row, whichever of its positives and hard negatives are drawn.
///
/// Frozen towers do not count: they keep no activations, and mostly have their vectors in the teacher cache.
///
/// # Errors
/// Returns an error if rows cannot be read or texts cannot be tokenized.
pub(crate) fn row_tokens(batcher: &Batcher<'_>, towers: &Towers, stage: &CheckedStage) -> Result<RowTokens> {
    let count = |together: Together<'_>| {
        let mut tokens = Vec::with_capacity(together.rows.len());
        for rows in together.rows.chunks(ROWS) {
            tokens.extend(of_rows(&together.source.read(rows)?, together, towers, stage)?);
        }
        Ok(tokens.into())
    };
    batcher.together().map(count).collect()
}

fn of_rows(
    examples: &[TrainingExample],
    together: Together<'_>,
    towers: &Towers,
    stage: &CheckedStage,
) -> Result<Vec<u32>> {
    let aligns = stage.kind == StageKind::QueryAlignment;
    let (query_tokenizer, _, query_role) = towers.query_side();
    let document_tokenizer = if aligns { query_tokenizer } else { towers.document.tokenizer() };
    let document_role = if aligns { Role::Query } else { Role::Document };
    let lengths = |is_trained: bool, tokenizer: &care_encoders::tokenize::Tokenizer, texts: &[String]| match is_trained
    {
        true => Ok(tokenizer.encode(texts)?.iter().map(Vec::len).collect()),
        false => Ok(vec![0; texts.len()]),
    };
    let is_trained = |role| stage.mode(role) != TrainMode::Frozen;

    let (mut queries, mut documents, mut of_row) = (Vec::new(), Vec::new(), Vec::new());
    for example in examples {
        // An alignment has no tasks.
        let prompt = [example.prompt.as_ref().filter(|_| !aligns)];
        queries.extend(towers.prepare_queries(stage, &prompt, std::slice::from_ref(&example.query)));
        let texts = [example.positives.as_slice(), &example.negatives].concat();
        documents.extend(match aligns {
            true => towers.prepare_queries(stage, &vec![None; texts.len()], &texts),
            false => towers.prepare_documents(stage, together.row_type, &prompt, &texts),
        });
        of_row.push(texts);
    }
    let queries: Vec<usize> = lengths(is_trained(query_role), query_tokenizer, &queries)?;
    let documents: Vec<usize> = lengths(is_trained(document_role), document_tokenizer, &documents)?;
    let mut documents = documents.into_iter();
    let most = |((example, texts), query): ((&TrainingExample, &Vec<String>), usize)| {
        // An alignment reads a text once that is in a row as query and document.
        let is_read = |text: &String| !(aligns && *text == example.query);
        let mut lengths: Vec<usize> =
            texts.iter().zip(&mut documents).map(|(text, length)| if is_read(text) { length } else { 0 }).collect();
        let negatives = lengths.split_off(example.positives.len());
        let positive = lengths.into_iter().max().unwrap_or(0);
        let most = query + positive + most_of(negatives, together.group_size - 1);
        u32::try_from(most).unwrap_or(u32::MAX)
    };
    Ok(examples.iter().zip(&of_row).zip(queries).map(most).collect())
}

/// The most tokens of `drawn` texts, none of which is drawn again before all are.
fn most_of(mut lengths: Vec<usize>, drawn: usize) -> usize {
    if lengths.is_empty() {
        return 0;
    }
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let (rounds, rest) = (drawn / lengths.len(), drawn % lengths.len());
    rounds * lengths.iter().sum::<usize>() + lengths[..rest].iter().sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::most_of;

    #[test]
    fn texts_are_drawn_again_only_after_all_others() {
        let most = |drawn| most_of(vec![3, 9, 4], drawn);
        assert_eq!([0, 1, 2, 3, 4, 7].map(most), [0, 9, 13, 16, 25, 41]);
        assert_eq!(most_of(Vec::new(), 0), 0);
    }
}
