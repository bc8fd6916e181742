//! The beginning of a saved pair's model card.

use care_core::{Role, Text};

use crate::encoder::Encoder;
use crate::registry::AnyEncoder;
use crate::tower::{DocumentTower, QueryTower, Tower};

/// Front matter for the hub, a description of the towers, and how programs load them.
pub(crate) fn card_head(query: &QueryTower<AnyEncoder>, document: &DocumentTower<AnyEncoder>) -> String {
    let unit_length = query.network().head().is_unit_length() && document.network().head().is_unit_length();
    let similarity = if unit_length { "dot product of vectors of length 1, the cosine" } else { "dot product" };
    let quantized = query.network().encoder().is_quantized() || document.network().encoder().is_quantized();
    let (library, python) = match quantized {
        true => (
            "tags:\n",
            "Other programs refuse quantized weights: `care convert --precision f32` makes floats of them.\n",
        ),
        false => (
            "library_name: sentence-transformers\ntags:\n- sentence-transformers\n",
            "```python\n\
             from sentence_transformers import SentenceTransformer\n\
             vectors = SentenceTransformer(\"FOLDER\").encode_query([\"QUERY\"])\n\
             ```\n",
        ),
    };
    format!(
        "---\n{library}- asymmetric-retrieval\n- care\n---\n\n\
         # An asymmetric retriever\n\n\
         Queries and documents are encoded by two towers that share a vector space. Similarity is the {similarity}.\n\n\
         {}{}\n\
         ```rust\n\
         use care_core::Embedder;\n\
         let pair = care_encoders::AsymmetricEncoder::load(\"FOLDER\", &care_encoders::Device::Cpu.open()?)?;\n\
         let vectors = pair.embed_queries(&[\"QUERY\".into()])?;\n\
         ```\n\n\
         {python}",
        tower(query),
        tower(document),
    )
}

/// One item of a list.
fn tower<T: Text>(tower: &Tower<T, AnyEncoder>) -> String {
    let config = tower.network().encoder().config();
    let settings = config.settings();
    let (kind, layers) = (settings.model_type(), settings.common().num_hidden_layers);
    let (dim, length) = (tower.embedding_dim(), tower.tokenizer().max_length());
    let mut line = format!("- {}: {kind}, {layers} layers, {dim} dimensions, at most {length} tokens", name(T::ROLE));
    match tower.instruction().template().as_str() {
        "" => line += ", no instruction",
        template => line += &format!(", instruction `{template:?}`"),
    }
    if let Some(form) = tower.network().encoder().quantization() {
        line += &format!(", weights in {}", form.precision().as_str());
    }
    line + "\n"
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Query => "queries",
        Role::Document => "documents",
    }
}
