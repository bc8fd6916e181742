//! Hashes of everything that determines a tower's vectors, and whether two towers have a network in common.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use care_core::files::hex;
use care_core::{Document, Query, Result, Text};
use care_kernels::InstructionSet;
use sha2::{Digest, Sha256};

use crate::encoder::Encoder;
use crate::layers::{Linear, ParameterPath, Parts, Prepack};
use crate::network::Network;
use crate::registry::AnyEncoder;
use crate::tokenize::{Tokenizer, TruncationSide};
use crate::tower::Tower;

/// The SHA-256, in hexadecimal, of everything that determines a tower's vector for a prepared text: architecture, every
/// weight in its dtype, LoRA adapters, head, tokenizer and length limit.
///
/// It covers neither the device nor the instruction, which is part of the prepared text, except for whether texts are
/// pairs. Two towers with equal fingerprints return equal vectors, up to differences in rounding between devices. An
/// int8-quantized tower has one fingerprint on processors with dot products of bytes and another on those without, since
/// they quantize differently.
///
/// It is computed once for a tower and its clones.
///
/// # Errors
/// If the tokenizer cannot be serialised.
pub fn tower_fingerprint<T: Text>(tower: &Tower<T, AnyEncoder>) -> Result<String> {
    if let Some(known) = tower.known_fingerprint().get() {
        return Ok(known.clone());
    }
    let fingerprint = compute(tower)?;
    Ok(tower.known_fingerprint().get_or_init(|| fingerprint).clone())
}

fn compute<T: Text>(tower: &Tower<T, AnyEncoder>) -> Result<String> {
    let network = tower.network();
    let mut encoder = network.encoder().clone();
    let mut fingerprint = Fingerprint::new("care-tower-1", &mut encoder, projection_of(network));
    fingerprint.add(&format!("{:?}", network.head()));
    fingerprint.add_tokenizer(tower.tokenizer())?;
    if tower.instruction().is_pair() {
        fingerprint.add("pairs");
    }
    Ok(fingerprint.finish(&mut encoder, network))
}

/// The SHA-256 of a network's architecture and weights.
pub fn network_fingerprint(network: &Network<AnyEncoder>) -> String {
    let mut encoder = network.encoder().clone();
    Fingerprint::new("care-network-1", &mut encoder, projection_of(network)).finish(&mut encoder, network)
}

/// The projection's linear layer, by the path of its weight.
fn projection_of(network: &Network<AnyEncoder>) -> Option<(String, Linear)> {
    let projection = network.projection()?;
    Some(("projection.linear.weight".to_owned(), projection.linear().clone()))
}

/// The hash of a network, in the making.
pub(crate) struct Fingerprint(Weights);

impl Fingerprint {
    /// Begins with the kind of model and what its encoder is; `more` are the linear layers beside those of the encoder,
    /// by the paths of their weights.
    pub(crate) fn new(kind: &str, encoder: &mut AnyEncoder, more: impl IntoIterator<Item = (String, Linear)>) -> Self {
        let mut linears = packed(encoder, "encoder.");
        linears.extend(more);
        let mut weights = Weights { digest: Sha256::new(), path: ParameterPath::default(), linears };
        update(&mut weights.digest, kind);
        // The quantization of inputs, which the weights do not show.
        match encoder.quantization() {
            Some(Prepack::Int4) => update(&mut weights.digest, "int4, inputs to 127 in groups of 32"),
            Some(_) => {
                let grouped = encoder.linears().iter().any(|(_, linear)| linear.groups_inputs());
                let largest = if InstructionSet::current().has_byte_products() { 255 } else { 127 };
                let groups = if grouped { " in groups of 128" } else { "" };
                update(&mut weights.digest, &format!("int8, inputs to {largest}{groups}"));
            }
            None => {}
        }
        update(&mut weights.digest, &encoder.config().to_json().to_string());
        Self(weights)
    }

    /// Adds a setting.
    pub(crate) fn add(&mut self, text: &str) {
        update(&mut self.0.digest, text);
    }

    /// Adds a tokenizer with its length limit.
    ///
    /// # Errors
    /// If it cannot be serialised.
    pub(crate) fn add_tokenizer(&mut self, tokenizer: &Tokenizer) -> Result<()> {
        self.add(&tokenizer.max_length().to_string());
        self.add(&tokenizer.to_json()?);
        if tokenizer.truncation_side() == TruncationSide::Left {
            self.add("truncated on the left");
        }
        Ok(())
    }

    /// Adds every weight of the network, whose field `encoder` is the encoder.
    pub(crate) fn finish(mut self, encoder: &mut AnyEncoder, network: &impl Module) -> String {
        self.0.add_scales(encoder);
        network.visit(&mut self.0);
        hex(self.0.digest.finalize())
    }
}

/// Whether two towers have the same network, tokenizer and length limit, so that one folder can hold both.
///
/// # Errors
/// If a tokenizer cannot be serialised.
pub(crate) fn share_transformer(
    query: &Tower<Query, AnyEncoder>,
    document: &Tower<Document, AnyEncoder>,
) -> Result<bool> {
    let (left, right) = (query.tokenizer(), document.tokenizer());
    let settings = |tokenizer: &Tokenizer| (tokenizer.max_length(), tokenizer.pad_id(), tokenizer.truncation_side());
    let (query, document) = (query.network().encoder(), document.network().encoder());
    let same_form = query.quantization() == document.quantization() && query.config() == document.config();
    if settings(left) != settings(right) || !same_form {
        return Ok(false);
    }
    // The weights come last: they are most of the work.
    Ok(left.to_json()? == right.to_json()? && weights_of(query) == weights_of(document))
}

/// The hash of an encoder's weights in their dtype, LoRA adapters included.
fn weights_of(encoder: &AnyEncoder) -> String {
    let mut encoder = encoder.clone();
    let linears = packed(&mut encoder, "");
    let mut weights = Weights { digest: Sha256::new(), path: ParameterPath::default(), linears };
    weights.add_scales(&mut encoder);
    encoder.visit(&mut weights);
    hex(weights.digest.finalize())
}

/// Adds weights to a hash, with their names, shapes and dtypes.
struct Weights {
    digest: Sha256,
    path: ParameterPath,
    /// The layers that may be packed, by the paths of their weights.
    linears: BTreeMap<String, Linear>,
}

impl Weights {
    /// Adds what the weights of LoRA adapters are multiplied by.
    fn add_scales(&mut self, encoder: &mut AnyEncoder) {
        for (name, linear) in encoder.linears() {
            if let Some(lora) = linear.lora() {
                update(&mut self.digest, &format!("{name} {}", lora.scale()));
            }
        }
    }
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join();
        let data = match self.linears.get(&path).and_then(Linear::unpacked_weight) {
            Some(weight) => weight.into_data(),
            None => param.val().into_data(),
        };
        update(&mut self.digest, &format!("{path} {:?} {:?}", data.shape(), data.dtype()));
        self.digest.update(data.as_bytes());
    }
}

/// The linear layers of an encoder by the paths of their weights.
fn packed(encoder: &mut AnyEncoder, prefix: &str) -> BTreeMap<String, Linear> {
    let named = |(path, linear): (String, &mut Linear)| (format!("{prefix}{path}.weight"), linear.clone());
    encoder.linears().into_iter().map(named).collect()
}

fn update(digest: &mut Sha256, text: &str) {
    digest.update(text.len().to_le_bytes());
    digest.update(text);
}
