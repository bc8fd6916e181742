//! From hidden states to a logit: the classification heads of transformers, and two rows of a language-model head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use care_core::{Error, ErrorKind, Result};
use care_kernels::Activation;

use crate::batch::TokenBatch;
use crate::device::Precision;
use crate::encoder::Encoder;
use crate::head::Pooling;
use crate::layers::{LayerNorm, Linear, Prepack, WeightTable};
use crate::ops::activate;
use crate::pretrained::{Checkpoint, fill_from};

/// A pooled vector through an optional dense layer with its activation and norm, to one logit.
#[derive(Module, Debug)]
pub(super) struct ScoreHead {
    dense: Option<Linear>,
    norm: Option<LayerNorm>,
    output: Linear,
    #[module(skip)]
    pooling: Pooling,
    /// After the dense layer, if there is one.
    #[module(skip)]
    activation: Squash,
}

/// The activation after the dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Squash {
    Tanh,
    Function(Activation),
}

/// The form of a classification head.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadForm {
    pub(super) pooling: Pooling,
    pub(super) activation: Squash,
    /// Whether the dense layer has a bias.
    pub(super) dense_bias: bool,
    /// The norm after the activation: its epsilon, and whether it has a bias.
    pub(super) norm: Option<(f64, bool)>,
    /// The names of its weights. All else in a checkpoint belongs to the encoder, or to heads that are not used.
    pub(super) weights: &'static WeightTable,
}

/// BERT's and ERNIE's: the pooler, then a classifier.
pub(super) const BERT: WeightTable = WeightTable {
    prefixes: &["bert.", "ernie."],
    rows: &[("dense", "pooler.dense"), ("output", "classifier")],
    fused: &[],
    ignored: &["embeddings.", "encoder.", "cls.", "qa_outputs."],
};

/// RoBERTa's, XLM-RoBERTa's and MPNet's.
pub(super) const ROBERTA: WeightTable = WeightTable {
    prefixes: &["roberta.", "mpnet."],
    rows: &[("dense", "classifier.dense"), ("output", "classifier.out_proj")],
    fused: &[],
    ignored: &["embeddings.", "encoder.", "pooler.", "lm_head.", "qa_outputs."],
};

pub(super) const DISTILBERT: WeightTable = WeightTable {
    prefixes: &["distilbert."],
    rows: &[("dense", "pre_classifier"), ("output", "classifier")],
    fused: &[],
    ignored: &["embeddings.", "transformer.", "vocab_", "qa_outputs."],
};

/// GTE's, in the names of its authors' `NewForSequenceClassification` and of transformers' class.
pub(super) const GTE: WeightTable = WeightTable {
    prefixes: &["new.", "gte.", "model."],
    rows: &[("dense", "pooler.dense"), ("output", "classifier")],
    fused: &[],
    ignored: &["embeddings.", "encoder.", "layers.", "lm_head.", "*rotary_emb.inv_freq"],
};

pub(super) const MODERN_BERT: WeightTable = WeightTable {
    prefixes: &["model."],
    rows: &[("dense", "head.dense"), ("norm", "head.norm"), ("output", "classifier")],
    fused: &[],
    ignored: &["embeddings.", "layers.", "final_norm.", "decoder."],
};

impl ScoreHead {
    /// Reads a classification head, in f32.
    ///
    /// # Errors
    /// If a tensor is missing, has the shape of another number of labels, or is left over.
    pub(super) fn classifier(checkpoint: &Checkpoint, form: &HeadForm, width: usize, device: &Device) -> Result<Self> {
        let norm = |(eps, bias)| LayerNorm::new(width, eps, device).with_bias(bias);
        let empty = Self {
            dense: Some(Linear::new(width, width, form.dense_bias, device)),
            norm: form.norm.map(norm),
            output: Linear::new(width, 1, true, device),
            pooling: form.pooling,
            activation: form.activation,
        };
        fill_from(checkpoint, form.weights, Precision::F32, empty)
    }

    /// The difference of the logits of two tokens at the last position, or the logit of one.
    ///
    /// # Errors
    /// If the language-model head is missing or has no such rows.
    ///
    /// # Reference
    /// A head in the checkpoint is used even if `tied` says that it is the embedding table, as transformers 5 does.
    pub(super) fn of_tokens(
        checkpoint: &Checkpoint,
        tokens: (u32, Option<u32>),
        tied: bool,
        width: usize,
        device: &Device,
    ) -> Result<Self> {
        const TABLES: [&str; 2] = ["model.embed_tokens.weight", "embed_tokens.weight"];
        let refuse =
            |problem: String| Error::new(ErrorKind::Checkpoint, format!("{}: {problem}", checkpoint.path().display()));
        let candidates = ["lm_head.weight"].into_iter().chain(TABLES.into_iter().filter(|_| tied));
        let name = candidates.into_iter().find(|name| checkpoint.shape(name).is_some()).ok_or_else(|| {
            refuse("tensor `lm_head.weight` is missing, and `tie_word_embeddings` is not true".to_owned())
        })?;
        let shape = checkpoint.shape(name).unwrap_or_default();
        let &[rows, columns] = shape else {
            return Err(refuse(format!("tensor `{name}` has shape {shape:?}, expected [vocabulary, {width}]")));
        };
        if columns != width {
            return Err(refuse(format!("tensor `{name}` has shape {shape:?}, expected [{rows}, {width}]")));
        }
        let row = |token: u32| {
            let token = token as usize;
            if token >= rows {
                return Err(refuse(format!("tensor `{name}` has {rows} rows, but the score needs row {token}")));
            }
            let data = checkpoint.read(name, (token, rows), true, Precision::F32)?;
            Ok(Tensor::<2>::from_data(data, device))
        };
        let weight = match tokens {
            (yes, Some(no)) => row(yes)? - row(no)?,
            (yes, None) => row(yes)?,
        };
        let output = Linear::of_weight(weight);
        Ok(Self { dense: None, norm: None, output, pooling: Pooling::LastToken, activation: Squash::Tanh })
    }

    /// Packs the weights for inference on the CPU, in f32: see [`Linear::prepack`].
    pub(super) fn prepacked(mut self) -> Self {
        self.linears().for_each(|(_, linear)| linear.prepack(Prepack::F32));
        self
    }

    /// The linear layers with their module paths.
    pub(super) fn linears(&mut self) -> impl Iterator<Item = (&'static str, &mut Linear)> {
        self.dense.iter_mut().map(|dense| ("dense", dense)).chain([("output", &mut self.output)])
    }

    /// What the weights do not show, for a fingerprint.
    pub(super) fn form(&self) -> String {
        format!("{:?} {:?}", self.pooling, self.dense.as_ref().map(|_| self.activation))
    }

    /// # Shapes
    /// `[rows, seq]` to `[batch, 1]`, f32.
    pub(super) fn forward(&self, encoder: &impl Encoder, batch: &TokenBatch) -> Tensor<2> {
        let pooled = self.pooling.encode(encoder, batch);
        let pooled = match (&self.dense, self.activation) {
            (None, _) => pooled,
            (Some(dense), Squash::Tanh) => dense.forward(pooled).tanh(),
            (Some(dense), Squash::Function(function)) => activate(dense.forward(pooled), function),
        };
        let normed = |norm: &LayerNorm| norm.forward(pooled.clone().unsqueeze::<3>()).squeeze_dim(0);
        self.output.forward(self.norm.as_ref().map_or_else(|| pooled.clone(), normed))
    }
}
