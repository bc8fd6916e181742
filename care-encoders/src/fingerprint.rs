//! Hash of everything that determines a tower's vectors.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use care_core::files::hex;
use care_core::{Result, Text};
use sha2::{Digest, Sha256};

use crate::encoder::Encoder;
use crate::layers::{Linear, ParameterPath, Parts};
use crate::registry::AnyEncoder;
use crate::tokenize::TruncationSide;
use crate::tower::Tower;

/// The SHA-256, in hexadecimal, of everything that determines a tower's vector for a prepared text: architecture, every
/// weight in its dtype, LoRA adapters, head, tokenizer and length limit.
///
/// It covers neither the device nor the instruction, which is part of the prepared text, except for whether texts are
/// pairs. Two towers with equal fingerprints return equal vectors, up to differences in rounding between devices.
///
/// # Errors
/// If the tokenizer cannot be serialised.
pub fn tower_fingerprint<T: Text>(tower: &Tower<T, AnyEncoder>) -> Result<String> {
    struct Weights {
        digest: Sha256,
        path: ParameterPath,
        /// The layers that may be packed, by the paths of their weights.
        linears: BTreeMap<String, Linear>,
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
    let network = tower.network();
    let mut encoder = network.encoder().clone();
    let named = |(path, linear): (String, &mut Linear)| (format!("encoder.{path}.weight"), linear.clone());
    let mut linears: BTreeMap<String, Linear> = encoder.linears().into_iter().map(named).collect();
    let projection = network.projection().map(|projection| projection.linear().clone());
    linears.extend(projection.map(|linear| ("projection.linear.weight".to_owned(), linear)));
    let mut weights = Weights { digest: Sha256::new(), path: ParameterPath::default(), linears };
    update(&mut weights.digest, "care-tower-1");
    if network.encoder().is_quantized() {
        // Includes the quantization of inputs, which the weights do not show.
        let grouped = encoder.linears().iter().any(|(_, linear)| linear.groups_inputs());
        let inputs = if grouped { "int8, inputs to 127 in groups of 128" } else { "int8, inputs to 127" };
        update(&mut weights.digest, inputs);
    }
    update(&mut weights.digest, &network.encoder().config().to_json().to_string());
    update(&mut weights.digest, &format!("{:?}", network.head()));
    update(&mut weights.digest, &tower.tokenizer().max_length().to_string());
    update(&mut weights.digest, &tower.tokenizer().to_json()?);
    if tower.tokenizer().truncation_side() == TruncationSide::Left {
        update(&mut weights.digest, "truncated on the left");
    }
    if tower.instruction().is_pair() {
        update(&mut weights.digest, "pairs");
    }
    for (name, linear) in encoder.linears() {
        if let Some(lora) = linear.lora() {
            update(&mut weights.digest, &format!("{name} {}", lora.scale()));
        }
    }
    network.visit(&mut weights);
    Ok(hex(weights.digest.finalize()))
}

fn update(digest: &mut Sha256, text: &str) {
    digest.update(text.len().to_le_bytes());
    digest.update(text);
}
