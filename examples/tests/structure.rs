//! The modules of each crate have an order: a module uses only those below it. The files of a folder have none, but no
//! circle either.

mod source;

use std::collections::BTreeSet;

use source::{Sources, Token, sources_of, tokens};

/// The top-level modules of each crate, bottom first: each may use only those before it.
const ORDERS: [(&str, &str); 14] = [
    (
        "care-kernels",
        "activation columns half kernel vnni instructions math scratch matmul f32_matrix half_matrix int8_matrix \
         int4_matrix scores gradient attention attention_backward pointwise norm_backward adamw adamw_rows",
    ),
    ("care-core", "guard error text files lines jsonl embeddings index store embedder reranker hub manifest"),
    (
        "care-encoders",
        "device tokenize batch schedule ops layers encoder head passes network summary tower settings post_norm modern_bert \
         decoder auto_map registry vocabulary fingerprint pretrained card asymmetric cross_encoder",
    ),
    ("care-eval", "error metric measure missing ties evaluation qrels run evaluate fusion io stats agreement"),
    ("care-data", "disjoint normalise against near table rows split chunk clean dedup stats bm25 hybrid mine"),
    (
        "care-label",
        "scale pair prompt judge vote journal estimate run batch collect ballots resolve clean generate experts agree audit build",
    ),
    (
        "cmedteb",
        "error fingerprint rows task loader mini tasks protocol baseline hybrid report results compare summary audit",
    ),
    (
        "care-train",
        "schedule stage collective command loss dataset gradient shares reduce optim config report log tensorboard curves card \
         fingerprint batcher checkpoint pass towers ahead lengths objective guards evaluation teacher trainer run",
    ),
    ("care-serve", "options failure blocking metrics role vector tower lane words collection service http server"),
    ("care-datafusion", "tower function"),
    ("care-py", "error locate texts work pair reranker metrics"),
    ("care-shard", "clock dtype storage input plan table job state commit claims worker status verify merge estimate"),
    ("care-stores", "store push parquet pgvector qdrant"),
    (
        "care-cli",
        "stderr stdout paths interrupt families progress model embedding reranker tasks texts hits asking commands",
    ),
];

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
    let violations = ORDERS.map(|(name, order)| check(name, order, &sources_of(name))).concat();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// What breaks the structure of a crate, one message per line of its sources.
fn check(name: &str, order: &str, sources: &Sources) -> Vec<String> {
    let root = if sources.contains_key("lib.rs") { "lib.rs" } else { "main.rs" };
    let (mut modules, mut uses) = (BTreeSet::new(), Vec::new());
    visit(root, &Vec::new(), sources, &mut modules, &mut uses);
    let mut violations = upward(name, &order.split_whitespace().collect::<Vec<_>>(), &modules, &uses);
    for folder in modules.iter().filter(|module| !module.is_empty()) {
        violations.extend(circles(name, folder, &modules, &uses));
    }
    violations.dedup();
    violations
}

/// Collects the modules below `module` and the paths in their code.
fn visit(file: &str, module: &Module, sources: &Sources, modules: &mut BTreeSet<Module>, uses: &mut Vec<Use>) {
    modules.insert(module.clone());
    let tokens = tokens(&sources[file]);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let declared: Vec<usize> = (0..tokens.len()).filter(|at| text(*at) == "mod" && text(at + 2) == ";").collect();
    let children: Vec<&str> = declared.iter().map(|at| text(at + 1)).collect();
    collect_uses(file, module, &tokens, &children, uses);
    for at in declared {
        let module = [module.as_slice(), &[text(at + 1).to_string()]].concat();
        let path = module.join("/");
        let mut files = vec![format!("{path}.rs"), format!("{path}/mod.rs")];
        // `#[path = ".."] mod x;`
        if at >= 4 && text(at - 4) == "path" {
            let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
            files = vec![folder + text(at - 2).trim_matches('"')];
        }
        let file = files.iter().find(|file| sources.contains_key(*file));
        visit(file.unwrap_or_else(|| panic!("no file {}", files.join(" or "))), &module, sources, modules, uses);
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
            first
                if text(at) == "::"
                    && (matches!(first, "crate" | "self" | "super") || children.contains(&first))
                    && (start == 0 || !matches!(text(start - 1), "::" | ".")) =>
            {
                at = use_tree(tokens, start, &[], &mut paths);
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
        let used = uses.iter().filter(|used| used.from[..].starts_with(missing));
        let highest = used.filter_map(|used| place(used.to.first()?)).max();
        let after = highest.map_or("at the start".to_string(), |at| format!("after `{}`", order[at]));
        violations.push(format!(
            "the module `{}` of {name} is missing from ORDERS in examples/tests/structure.rs: add it {after} and before \
             the modules that use it",
            missing[0]
        ));
    }
    // The crate's root stands above its modules.
    for used in uses.iter().filter(|used| !used.from.is_empty()) {
        let line = format!("{name}/src/{}:{}", used.file, used.line);
        let (from, to) = (&used.from[0], used.to.first());
        match to.filter(|_| modules.contains(&used.to[..1])) {
            Some(to) if place(from).zip(place(to)).is_some_and(|(from, to)| from < to) => {
                violations.push(format!("{line}: `{from}` uses `{to}`, which is above it"));
            }
            Some(_) => {}
            None => violations
                .push(format!("{line}: `{from}` uses `{}` through the crate's root: name its module", used.name)),
        }
    }
    violations
}

/// The uses between the files of a folder that are part of a circle. What a folder's own file re-exports it does not
/// use.
fn circles(name: &str, folder: &Module, modules: &BTreeSet<Module>, uses: &[Use]) -> Vec<String> {
    let file = |module: &Module| match module.strip_prefix(&folder[..])? {
        [] => Some("mod".to_string()),
        [file, ..] => Some(file.clone()),
    };
    let mut edges = Vec::new();
    for used in uses.iter().filter(|used| !(used.reexport && used.from == *folder)) {
        if let Some((from, to)) = file(&used.from).zip(file(&defining(&used.to, modules, uses)))
            && from != to
        {
            edges.push((from, to, used));
        }
    }
    let in_circle = edges.iter().filter(|(from, to, _)| {
        let mut reached = BTreeSet::from([to]);
        while let Some((_, next, _)) =
            edges.iter().find(|(user, next, _)| reached.contains(user) && !reached.contains(next))
        {
            reached.insert(next);
        }
        reached.contains(from)
    });
    let folder = folder.join("::");
    let message = |(from, to, used): &(String, String, &Use)| {
        format!("{name}/src/{}:{}: `{from}` uses `{to}`, a circle in `{folder}`", used.file, used.line)
    };
    in_circle.map(message).collect()
}

/// The module whose file defines what `path` names, behind re-exports.
fn defining(path: &Module, modules: &BTreeSet<Module>, uses: &[Use]) -> Module {
    let depth = (0..=path.len()).rev().find(|depth| modules.contains(&path[..*depth])).unwrap_or(0);
    let module = &path[..depth];
    let reexports = |used: &&Use| used.from == module && path.get(depth) == Some(&used.name) && used.to != *path;
    uses.iter().find(reexports).map_or_else(|| module.to_vec(), |used| defining(&used.to, modules, uses))
}

fn sources(files: &[(&str, &str)]) -> Sources {
    files.iter().map(|(path, source)| (path.to_string(), source.to_string())).collect()
}

#[test]
fn an_upward_use_is_reported() {
    let low = "//! See [`crate::high`].\nfn f() -> &'static str { \"crate::high\" }\n\
               #[cfg(test)]\nmod tests { use crate::high::Top; }\nfn g() { crate::high::top::<u8>() }\n";
    let files = [("lib.rs", "mod high; mod low;"), ("high.rs", "use crate::low::f;"), ("low.rs", low)];
    let expected = "a/src/low.rs:5: `low` uses `high`, which is above it";
    assert_eq!(check("a", "low high", &sources(&files)), [expected]);
}

#[test]
fn a_circle_in_a_folder_is_reported() {
    let files = [
        ("lib.rs", "mod net;"),
        (
            "net/mod.rs",
            "#[path = \"input.rs\"]\nmod read;\nmod write;\npub use read::Reader;\npub(crate) use self::write::{Writer as Pen};",
        ),
        ("net/input.rs", "use super::Pen;\npub struct Reader;"),
        (
            "net/write.rs",
            "mod sealed { impl super::Writer {} }\npub struct Writer;\nuse crate::net::{self, read::Reader};",
        ),
    ];
    let read = "a/src/net/input.rs:1: `read` uses `write`, a circle in `net`";
    let write = "a/src/net/write.rs:3: `write` uses `read`, a circle in `net`";
    assert_eq!(check("a", "net", &sources(&files)), [read, write]);
}

#[test]
fn a_module_without_a_place_and_an_item_of_the_root_are_reported() {
    let files = [("lib.rs", "mod a; mod b; pub use a::A;"), ("a.rs", ""), ("b.rs", "use crate::A;\nuse crate::a::B;")];
    let place = "the module `b` of x is missing from ORDERS in examples/tests/structure.rs: add it after `a` and before \
                 the modules that use it";
    let root = "x/src/b.rs:1: `b` uses `A` through the crate's root: name its module";
    assert_eq!(check("x", "a", &sources(&files)), [place, root]);
}
