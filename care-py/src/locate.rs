//! Where a model is: a folder, the pair in the wheel, or the Hugging Face hub. The rules are those of `care --model`.

use std::path::{Path, PathBuf};

use care_core::files::is_hub_name;
use care_core::hub::{Hub, RepoId};
use care_core::{Error, ErrorKind, Result};
use care_encoders::burn::tensor;
use care_encoders::{Device, Precision};

/// The name of the pair in the wheel, given in place of a model.
const MINI: &str = "mini";

/// The folder of a model. A local folder is never looked up on the hub.
pub(crate) fn locate(model: &Path, interrupt: &mut dyn FnMut()) -> Result<PathBuf> {
    let Some(name) = model.to_str().filter(|_| !model.exists()) else { return Ok(model.to_owned()) };
    if name == MINI {
        return mini();
    }
    if !is_hub_name(name) {
        return Ok(model.to_owned());
    }
    let mut found = || {
        let id: RepoId = name.parse()?;
        Hub::from_env()?.model(&id, &mut |_| interrupt())
    };
    let snapshot = found().map_err(|e| {
        Error::new(e.kind(), format!("there is no folder {name}, and it cannot be loaded from the hub")).with_source(e)
    })?;
    Ok(snapshot.folder)
}

#[cfg(feature = "mini")]
fn mini() -> Result<PathBuf> {
    care_mini_zh::folder()
        .map_err(|e| Error::new(ErrorKind::Io, "cannot write the files of care-mini-zh").with_source(e))
}

#[cfg(not(feature = "mini"))]
fn mini() -> Result<PathBuf> {
    Err(Error::new(ErrorKind::Config, "this wheel is built without care-mini-zh: build it with the feature `mini`"))
}

/// Opens a device that computes in these dtypes, of which `None` is the device's own.
pub(crate) fn supported(device: Device, precisions: &[Option<Precision>]) -> Result<tensor::Device> {
    let opened = device.open()?;
    for precision in precisions.iter().map(|precision| precision.unwrap_or(device.default_precision())) {
        if !opened.supports_dtype(precision.dtype()) {
            let message = format!("device `{device}` does not support {}", precision.as_str());
            return Err(Error::new(ErrorKind::Device, message));
        }
    }
    Ok(opened)
}

/// The dtype to load weights in: as asked, else the device's own, else what the folder says.
pub(crate) fn precision(device: Device, asked: Option<Precision>) -> Option<Precision> {
    let own = device.default_precision();
    asked.or((own != Precision::F32).then_some(own))
}

/// Parses the name of a setting, if it is set.
pub(crate) fn parsed<T: std::str::FromStr<Err = Error>>(name: Option<&str>) -> Result<Option<T>> {
    name.map(str::parse).transpose()
}
