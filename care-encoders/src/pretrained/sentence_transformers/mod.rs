//! Model folders of sentence-transformers: a chain of modules, or a `Router` with one chain per role.

mod form;
mod read;
mod transformer;
mod write;

pub(crate) use form::{
    MODULES, ModuleRow, ROUTER_FILES, SETTINGS, TRANSFORMER_SETTINGS, is_module_folder, projection_folder,
    transformer_folder,
};
pub(crate) use read::read;
pub use write::save_tower;
pub(crate) use write::{write_route, write_router};
