//! Devices and dtypes, chosen by name at run time.

use std::fmt;
use std::str::FromStr;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, FloatDType, Tensor};
use care_core::{Error, ErrorKind, Result};
#[cfg(feature = "cpu")]
use care_kernels::InstructionSet;
use serde::{Deserialize, Serialize};

/// A device by name: `"cpu"`, `"wgpu"`, `"cuda"` or `"cuda:1"`.
///
/// Parsing succeeds even if the backend is not compiled in; [`Device::open`] then fails and names the missing Cargo
/// feature.
///
/// ```
/// use care_encoders::Device;
/// let device: Device = "cuda:0".parse()?;
/// assert_eq!(device, Device::Cuda(0));
/// # Ok::<(), care_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Device {
    /// All cores of the CPU (feature `cpu`).
    #[default]
    Cpu,
    /// The default GPU through Vulkan, Metal or DX12 (feature `wgpu`).
    Wgpu,
    /// The CUDA device with this index (feature `cuda`).
    Cuda(usize),
}

impl Device {
    /// The burn device.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] if this build lacks the backend's feature. On the CPU, also returns an error if the
    /// environment variable `CARE_CPU` names an [instruction set](care_kernels::InstructionSet) that the processor does
    /// not support.
    pub fn open(self) -> Result<burn::tensor::Device> {
        match self {
            #[cfg(feature = "cpu")]
            Device::Cpu => match InstructionSet::from_env() {
                Ok(_) => Ok(burn::tensor::Device::flex()),
                Err(unsupported) => {
                    let names: Vec<&str> = InstructionSet::available().iter().map(|set| set.name()).collect();
                    let allowed = format!("on this processor {}", names.join(", "));
                    let name = format!("{:?}", unsupported.name());
                    Err(Error::setting("CARE_CPU", name, &allowed).with_source(unsupported))
                }
            },
            #[cfg(feature = "wgpu")]
            Device::Wgpu => Ok(burn::tensor::Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
            #[cfg(feature = "cuda")]
            Device::Cuda(index) => Ok(burn::tensor::Device::cuda(index)),
            #[allow(unreachable_patterns, reason = "reached unless every backend is compiled in")]
            other => Err(Error::new(
                ErrorKind::Device,
                format!("device `{other}` is not compiled in: build with the Cargo feature `{}`", other.feature()),
            )),
        }
    }

    /// The recommended dtype for networks on this device: bf16 on CUDA, else f32.
    pub fn default_precision(self) -> Precision {
        match self {
            Device::Cuda(_) => Precision::Bf16,
            Device::Cpu | Device::Wgpu => Precision::F32,
        }
    }

    /// The devices that this build has backends for; for CUDA only the first.
    pub fn compiled() -> Vec<Self> {
        [Device::Cpu, Device::Wgpu, Device::Cuda(0)].into_iter().filter(|device| device.is_compiled()).collect()
    }

    fn is_compiled(self) -> bool {
        match self {
            Device::Cpu => cfg!(feature = "cpu"),
            Device::Wgpu => cfg!(feature = "wgpu"),
            Device::Cuda(_) => cfg!(feature = "cuda"),
        }
    }

    /// The Cargo feature that compiles this device's backend in.
    fn feature(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Wgpu => "wgpu",
            Device::Cuda(_) => "cuda",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cuda(index) => write!(f, "cuda:{index}"),
            other => f.write_str(other.feature()),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cpu" => Ok(Device::Cpu),
            "wgpu" => Ok(Device::Wgpu),
            "cuda" => Ok(Device::Cuda(0)),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Device::Cuda)
                .ok_or_else(|| Error::setting("device", format!("{name:?}"), "cpu, wgpu, cuda, cuda:0, cuda:1, ..")),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

/// Whether a burn device is the CPU, with or without autograd.
pub(crate) fn is_cpu(device: &burn::tensor::Device) -> bool {
    Device::Cpu.open().is_ok_and(|cpu| cpu == device.clone().inner())
}

/// The dtype of a network's weights, and on a GPU of its activations. On the CPU activations are f32: weights of 16 bits are
/// widened where they are used.
///
/// Norms, rotary tables, attention scores, pooling and the head are always computed in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16: f32's range with 8 bits of precision.
    Bf16,
    /// IEEE half precision; may overflow in large decoders.
    F16,
    /// int8-quantized linear weights, for inference on the CPU; everything else in f32. See
    /// [`Int8Matrix`](care_kernels::Int8Matrix).
    Int8,
    /// Linear weights quantized to 4 bits in groups of 32 inputs, for inference on the CPU; the token table in the file's
    /// dtype, everything else in f32. See [`Int4Matrix`](care_kernels::Int4Matrix).
    Int4,
}

impl Precision {
    /// The dtype of a network's first weight, which is never quantized; f32 if there is none.
    pub fn of(network: &impl Module) -> Self {
        struct First(Option<DType>);
        impl ModuleVisitor for First {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if self.0.is_none() {
                    self.0 = Some(param.val().dtype());
                }
            }
        }
        let mut first = First(None);
        network.visit(&mut first);
        match first.0 {
            Some(DType::BF16) => Precision::Bf16,
            Some(DType::F16) => Precision::F16,
            _ => Precision::F32,
        }
    }

    /// burn's dtype of plain weights.
    pub fn dtype(self) -> FloatDType {
        match self {
            Precision::F32 | Precision::Int8 | Precision::Int4 => FloatDType::F32,
            Precision::Bf16 => FloatDType::BF16,
            Precision::F16 => FloatDType::F16,
        }
    }

    /// Its name in files and messages: `f32`, `bf16`, `f16`, `int8` or `int4`.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
            Precision::Int8 => "int8",
            Precision::Int4 => "int4",
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Precision::F32, Precision::Bf16, Precision::F16, Precision::Int8, Precision::Int4]
            .into_iter()
            .find(|precision| precision.as_str() == name)
            .ok_or_else(|| Error::setting("precision", format!("{name:?}"), "f32, bf16, f16, int8, int4"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["cpu", "wgpu", "cuda:0", "cuda:3"] {
            assert_eq!(name.parse::<Device>().expect("known").to_string(), name);
        }
        for name in ["gpu", "cuda:", "cuda:x", "CPU", ""] {
            let error = name.parse::<Device>().expect_err("unknown");
            assert_eq!(
                error.to_string(),
                format!("`device` is {name:?}, allowed: cpu, wgpu, cuda, cuda:0, cuda:1, ..")
            );
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_that_is_not_compiled_in_names_its_feature() {
        let error = Device::Cuda(0).open().expect_err("cuda is off");
        assert_eq!(error.kind(), ErrorKind::Device);
        assert_eq!(error.to_string(), "device `cuda:0` is not compiled in: build with the Cargo feature `cuda`");
    }
}
