//! The modules of each crate have an order: a module uses only those below it. The files of a folder have none, but no
//! circle either.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use source::{Token, tokens, workspace};

/// The top-level modules of each crate, bottom first: each may use those before it.
const ORDERS: [(&str, &[&str]); 7] = [
    (
        "care-kernels",
        &["activation", "instructions", "math", "matmul", "f32_matrix", "int8_matrix", "attention", "pointwise"],
    ),
    ("care-core", &["error", "text", "files", "jsonl", "embeddings", "index", "store", "embedder", "hub"]),
    (
        "care-encoders",
        &[
            "device",
            "tokenize",
            "batch",
            "schedule",
            "ops",
            "layers",
            "encoder",
            "head",
            "network",
            "tower",
            "settings",
            "post_norm",
            "decoder",
            "registry",
            "fingerprint",
            "pretrained",
            "asymmetric",
        ],
    ),
    ("care-eval", &["error"]),
    (
        "cmedteb",
        &[
            "error",
            "fingerprint",
            "rows",
            "task",
            "loader",
            "tasks",
            "protocol",
            "baseline",
            "report",
            "results",
            "compare",
            "summary",
            "audit",
        ],
    ),
    ("care-train", &["schedule"]),
    ("care-cli", &["progress", "model", "tasks", "texts", "commands"]),
];

/// The sources of a crate by their path in `src`.
type Sources = BTreeMap<String, String>;

/// A module by its names from the crate's root, whose own name is empty.
type Module = Vec<String>;

/// A path in the code of one module to a module or item of the same crate.
struct Use {
    file: String,
    line: usize,
    from: Module,
    to: Module,
    /// The last name, or the one after `as`.
    name: String,
    reexport: bool,
}

#[test]
fn modules_use_only_those_below_them() {
    let mut violations = Vec::new();
    for (name, order) in ORDERS {
        violations.extend(check(name, order, &read(name)));
    }
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn read(name: &str) -> Sources {
    let root = workspace().join(name).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Sources::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry of the folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(&root).expect("a file below src");
                sources.insert(path.display().to_string().replace('\\', "/"), source);
            }
        }
    }
    sources
}

/// What breaks the structure of a crate, one message per place.
fn check(name: &str, order: &[&str], sources: &Sources) -> Vec<String> {
    let root = if sources.contains_key("lib.rs") { "lib.rs" } else { "main.rs" };
    let (mut modules, mut uses) = (BTreeSet::new(), Vec::new());
    visit(root, &Vec::new(), sources, &mut modules, &mut uses);
    let mut violations = upward(name, order, &modules, &uses);
    for folder in modules.iter().filter(|module| !module.is_empty()) {
        violations.extend(circles(name, folder, &modules, &uses));
    }
    violations
}

/// Collects the modules below `module` and the paths in their code.
fn visit(file: &str, module: &Module, sources: &Sources, modules: &mut BTreeSet<Module>, uses: &mut Vec<Use>) {
    modules.insert(module.clone());
    let tokens = tokens(&sources[file]);
    let children: Vec<&str> =
        tokens.windows(3).filter(|t| t[0].text == "mod" && t[2].text == ";").map(|t| t[1].text).collect();
    collect_uses(file, module, &tokens, &children, uses);
    for child in children {
        let module = [module.as_slice(), &[child.to_string()]].concat();
        let path = module.join("/");
        let file = [format!("{path}.rs"), format!("{path}/mod.rs")].into_iter().find(|file| sources.contains_key(file));
        visit(&file.unwrap_or_else(|| panic!("no file for the module {path}")), &module, sources, modules, uses);
    }
}

fn collect_uses(file: &str, module: &Module, tokens: &[Token<'_>], children: &[&str], uses: &mut Vec<Use>) {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    // The modules inside the file, each with the depth of its braces.
    let (mut inline, mut depth): (Vec<(usize, &str)>, usize) = (Vec::new(), 0);
    let mut at = 0;
    while at < tokens.len() {
        let mut paths = Vec::new();
        let start = at;
        at += 1;
        match text(start) {
            "{" => depth += 1,
            "}" => {
                inline.pop_if(|(opened, _)| *opened == depth);
                depth -= 1;
            }
            "mod" if text(start + 2) == "{" => inline.push((depth + 1, text(start + 1))),
            "use" => at = use_tree(tokens, at, &[], &mut paths),
            first if text(at) == "::" && (start == 0 || !matches!(text(start - 1), "::" | ".")) => {
                if matches!(first, "crate" | "self" | "super") || children.contains(&first) {
                    at = use_tree(tokens, start, &[], &mut paths);
                }
            }
            _ => {}
        }
        let inner = inline.iter().map(|(_, name)| (*name).to_string());
        let here: Module = module.iter().cloned().chain(inner).collect();
        for (path, name) in paths {
            if let Some(to) = absolute(&here, &path, children) {
                let reexport = text(start) == "use" && start > 0 && matches!(text(start - 1), "pub" | ")");
                let (file, from, name) = (file.to_string(), module.clone(), name.to_string());
                uses.push(Use { file, line: tokens[start].line, from, to, name, reexport });
            }
        }
    }
}

/// Collects the paths of a tree such as `a::{b, c as d}`, each with the name that it brings in; returns the token after.
fn use_tree<'a>(
    tokens: &[Token<'a>],
    mut at: usize,
    prefix: &[&'a str],
    paths: &mut Vec<(Vec<&'a str>, &'a str)>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut path = prefix.to_vec();
    loop {
        if text(at) == "{" {
            at += 1;
            while !matches!(text(at), "}" | "") {
                at = if text(at) == "," { at + 1 } else { use_tree(tokens, at, &path, paths) };
            }
            return at + 1;
        }
        let name = text(at);
        if !(name == "*" || name.starts_with(|c: char| c.is_alphabetic() || c == '_')) {
            // The type arguments of `a::b::<T>`, or an absolute path.
            paths.push((path.clone(), path.last().copied().unwrap_or_default()));
            return at + 1;
        }
        path.push(name);
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    path.pop_if(|last| *last == "self" && !prefix.is_empty());
    let renamed = text(at) == "as";
    let name = if renamed { text(at + 1) } else { path.last().copied().unwrap_or_default() };
    paths.push((path, name));
    if renamed { at + 2 } else { at }
}

/// The names from the crate's root, or nothing for a path to another crate.
fn absolute(here: &Module, path: &[&str], children: &[&str]) -> Option<Module> {
    let (base, skipped) = match *path.first()? {
        "crate" => (&[][..], 1),
        "self" => (&here[..], 1),
        "super" => {
            let levels = path.iter().take_while(|name| **name == "super").count();
            (&here[..here.len().checked_sub(levels)?], levels)
        }
        first if children.contains(&first) => (&here[..], 0),
        _ => return None,
    };
    Some(base.iter().cloned().chain(path[skipped..].iter().map(ToString::to_string)).collect())
}

fn upward(name: &str, order: &[&str], modules: &BTreeSet<Module>, uses: &[Use]) -> Vec<String> {
    let place = |module: &str| order.iter().position(|other| *other == module);
    let mut violations = Vec::new();
    for missing in modules.iter().filter(|module| module.len() == 1 && place(&module[0]).is_none()) {
        let used =
            uses.iter().filter(|used| used.from.first() == missing.first() && used.to.first() != missing.first());
        let highest = used.filter_map(|used| place(used.to.first()?)).max();
        let after = highest.map_or("at the start".to_string(), |at| format!("after `{}`", order[at]));
        violations.push(format!("{name}: the module `{}` is not in ORDERS of examples/tests/structure.rs: add it {after}, below the modules that use it", missing[0]));
    }
    for used in uses {
        let Some(from) = used.from.first() else { continue };
        let line = format!("{name}/src/{}:{}", used.file, used.line);
        match used.to.first() {
            Some(to) if modules.contains(&used.to[..1]) => {
                if place(from).zip(place(to)).is_some_and(|(from, to)| to > from) {
                    violations.push(format!("{line}: `{from}` uses `{to}`, which is above it"));
                }
            }
            _ => violations
                .push(format!("{line}: `{from}` uses `{}` through the crate's root: name its module", used.name)),
        }
    }
    violations
}

/// The uses within a folder that are part of a circle. What a folder's own file re-exports is no use by that file.
fn circles(name: &str, folder: &Module, modules: &BTreeSet<Module>, uses: &[Use]) -> Vec<String> {
    let inside = |module: &Module| {
        module.starts_with(folder).then(|| module.get(folder.len()).map_or("mod", String::as_str).to_string())
    };
    let mut edges = Vec::new();
    for used in uses.iter().filter(|used| !(used.reexport && used.from == *folder)) {
        if let Some((from, to)) = inside(&used.from).zip(inside(&defining(&used.to, modules, uses)))
            && from != to
        {
            edges.push((from, to, format!("{name}/src/{}:{}", used.file, used.line)));
        }
    }
    // What ends at a file that uses none, or starts at one that none uses, is in no circle.
    loop {
        let before = edges.len();
        let ends = |edges: &[(String, String, String)]| -> (BTreeSet<String>, BTreeSet<String>) {
            edges.iter().map(|(from, to, _)| (from.clone(), to.clone())).unzip()
        };
        let (users, used) = ends(&edges);
        edges.retain(|(from, to, _)| used.contains(from) && users.contains(to));
        if edges.len() == before {
            break;
        }
    }
    let folder = folder.join("::");
    let message = |(from, to, line): &(String, String, String)| {
        format!("{line}: `{folder}::{from}` uses `{folder}::{to}`, in a circle")
    };
    edges.iter().map(message).collect()
}

/// The module whose file defines what `path` leads to, through re-exports.
fn defining(path: &Module, modules: &BTreeSet<Module>, uses: &[Use]) -> Module {
    let depth = (0..=path.len()).rev().find(|depth| modules.contains(&path[..*depth])).unwrap_or(0);
    let module = &path[..depth];
    let reexport = path
        .get(depth)
        .and_then(|name| uses.iter().find(|used| used.from == module && used.name == *name && used.to != *path));
    reexport.map_or_else(|| module.to_vec(), |reexport| defining(&reexport.to, modules, uses))
}

#[test]
fn an_upward_use_is_reported() {}
