//! Creates networks with random weights.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use care_core::Result;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::encoder::Encoder;
use crate::head::HeadConfig;
use crate::layers::ParameterPath;
use crate::network::Network;
use crate::registry::{AnyEncoder, EncoderConfig};

/// A network with random weights, equal for equal configuration and seed on every device.
///
/// Norms are the identity and biases 0; all other weights are normally distributed with the standard deviation
/// `initializer_range`.
///
/// # Errors
/// If the configuration is invalid.
pub fn random_encoder(config: &EncoderConfig, seed: u64, device: &Device) -> Result<AnyEncoder> {
    // Configurations built in code have not been checked yet.
    let config = EncoderConfig::from_json(config.to_json())?;
    let settings = config.settings();
    let deviation = settings.common().initializer_range;
    Ok(randomize(config.build(device), seed, deviation, settings.initial_norm_weight()))
}

/// A network with a head. A projection gets random weights from `seed`.
///
/// # Errors
/// As [`Network::new`].
pub fn network_with_head(
    encoder: AnyEncoder,
    head: HeadConfig,
    seed: u64,
    device: &Device,
) -> Result<Network<AnyEncoder>> {
    let deviation = (encoder.hidden_size() as f64).sqrt().recip();
    Network::new(encoder, head, device)?
        .try_map_projection(|projection| Ok(randomize(projection, seed, deviation, 1.0)))
}

/// Fills a module with random weights, and norms with `norm_weight`.
fn randomize<M: Module>(module: M, seed: u64, standard_deviation: f64, norm_weight: f32) -> M {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    module.map(&mut Randomizer { rng, standard_deviation, norm_weight, path: ParameterPath::default() })
}

struct Randomizer {
    rng: ChaCha8Rng,
    standard_deviation: f64,
    norm_weight: f32,
    path: ParameterPath,
}

impl ModuleMapper for Randomizer {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape: [usize; D] = param.lazy_shape().dims();
        let count = shape.iter().product();
        let values: Vec<f32> = match (self.path.is_bias(), self.path.is_norm()) {
            (true, _) => vec![0.0; count],
            (false, true) => vec![self.norm_weight; count],
            (false, false) => match Normal::new(0.0, self.standard_deviation) {
                Ok(normal) => (0..count).map(|_| normal.sample(&mut self.rng) as f32).collect(),
                // Unreachable: configurations are checked, so the deviation is finite.
                Err(_) => vec![0.0; count],
            },
        };
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &param.lazy_device()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{PaddingSide, TokenBatch};
    use crate::decoder::DecoderConfig;
    use crate::device::Device;
    use crate::modern_bert::ModernBertConfig;
    use crate::post_norm::{BertConfig, GteConfig};

    #[test]
    fn the_seed_decides_the_weights() {
        let device = Device::Cpu.open().expect("cpu");
        let bert = EncoderConfig::Bert(BertConfig::new(30, 64, 1));
        let gte = EncoderConfig::Gte(GteConfig::new(30, 64, 1));
        let modern = EncoderConfig::ModernBert(ModernBertConfig::new(30, 64, 2));
        let qwen = EncoderConfig::Decoder(DecoderConfig::new(30, 64, 1));
        for config in [bert, gte, modern, qwen] {
            let states = |seed| {
                let encoder = random_encoder(&config, seed, &device).expect("a valid configuration");
                let batch = TokenBatch::pad(&[vec![5, 6, 7]], 0, PaddingSide::Right);
                encoder.forward(&batch).into_data().try_to_vec::<f32>().expect("f32")
            };
            assert_eq!(states(1), states(1));
            assert_ne!(states(1), states(2));
        }
    }
}
