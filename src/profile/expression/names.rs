//! Whether every name that an expression uses exists, and what it reads.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};

use super::{FUNCTIONS, Names, Reads};
use crate::profile::parameter;
use crate::profile::pattern;

/// The roots that expressions may name.
const ROOTS: [&str; 7] = [
    "params",
    "variables",
    "instance",
    "object",
    "namespaceObject",
    "request",
    "sidecars",
];

/// The deepest tree that is evaluated: a review runs on a stack of 2 MiB, of which each level takes up to 40 KiB
/// (unoptimised), and a stack that overflows takes the whole process down.
const MAX_DEPTH: usize = 48;

/// The fields of `request`.
const REQUEST_FIELDS: [&str; 4] = ["namespace", "name", "operation", "dryRun"];

/// CEL's name for `condition ? a : b`.
const CONDITIONAL: &str = "_?_:_";

/// Checks that every name exists, and notes what is read.
pub(super) struct NameCheck<'n> {
    pub(super) names: &'n Names,
    /// Names bound by the macros around the expression at hand.
    pub(super) bound: Vec<String>,
    pub(super) reads: Reads,
    /// How deep in the tree the expression at hand stands.
    pub(super) depth: usize,
}

impl NameCheck<'_> {
    pub(super) fn expression(&mut self, expression: &IdedExpr) -> Result<(), String> {
        if self.depth == MAX_DEPTH {
            return Err(format!(
                "operations stand more than {MAX_DEPTH} deep in each other; name a part of it in variables"
            ));
        }
        self.depth += 1;
        let checked = self.kind(expression);
        self.depth -= 1;
        checked
    }

    fn kind(&mut self, expression: &IdedExpr) -> Result<(), String> {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.root(name, None),
            Expr::Select(_) if self.is_security_context(expression) => {
                self.reads.security_context = true;
                Ok(())
            }
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root) => self.root(root, Some(&select.field)),
                _ => self.expression(&select.operand),
            },
            Expr::Call(call) => {
                if let Some(target) = &call.target {
                    self.expression(target)?;
                }
                if call.func_name == "matches"
                    && let Some(Expr::Literal(LiteralValue::String(text))) =
                        call.args.last().map(|argument| &argument.expr)
                {
                    let text = text.inner();
                    pattern::check(text).map_err(|error| pattern::in_words(text, &error))?;
                }
                call.args
                    .iter()
                    .try_for_each(|argument| self.expression(argument))
            }
            Expr::List(list) => list
                .elements
                .iter()
                .try_for_each(|item| self.expression(item)),
            Expr::Map(map) => map
                .entries
                .iter()
                .try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(object) => object
                .entries
                .iter()
                .try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Comprehension(comprehension) => {
                self.expression(&comprehension.iter_range)?;
                self.order(&comprehension.iter_range)?;
                self.expression(&comprehension.accu_init)?;
                let outer = self.bound.len();
                self.bound.push(comprehension.iter_var.clone());
                self.bound.extend(comprehension.iter_var2.clone());
                self.bound.push(comprehension.accu_var.clone());
                let inside = self
                    .expression(&comprehension.loop_cond)
                    .and_then(|()| self.expression(&comprehension.loop_step))
                    .and_then(|()| self.expression(&comprehension.result));
                self.bound.truncate(outer);
                inside
            }
        }
    }

    /// Whether an expression is `object.spec.securityContext`, or a field of it.
    fn is_security_context(&self, expression: &IdedExpr) -> bool {
        const PATH: [&str; 3] = ["object", "spec", "securityContext"];
        let mut fields = Vec::new();
        let mut inner = expression;
        while let Expr::Select(select) = &inner.expr {
            fields.push(select.field.as_str());
            inner = &select.operand;
        }
        let Expr::Ident(root) = &inner.expr else {
            return false;
        };
        fields.push(root);
        let is_bound = self.bound.contains(root);
        !is_bound && fields.into_iter().rev().take(PATH.len()).eq(PATH)
    }

    fn entry(&mut self, entry: &EntryExpr) -> Result<(), String> {
        match entry {
            EntryExpr::StructField(field) => self.expression(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key)?;
                self.expression(&entry.value)
            }
        }
    }

    /// Refuses to go through what is surely a map: CEL defines no order for that, and the same review
    /// must give the same bytes.
    fn order(&self, range: &IdedExpr) -> Result<(), String> {
        if self.is_map(range) {
            return Err(
                "this goes through a map, whose order CEL does not define; ask for its keys by name".to_owned()
            );
        }
        Ok(())
    }

    /// Whether an expression surely gives a map, on one branch at least.
    fn is_map(&self, expression: &IdedExpr) -> bool {
        match &expression.expr {
            Expr::Map(_) => true,
            Expr::Select(select) if !select.test => match &select.operand.expr {
                Expr::Ident(root) if root == "variables" => self.names.maps.contains(&select.field),
                Expr::Ident(root) if root == "params" => false,
                _ => MAPS.contains(&select.field.as_str()),
            },
            Expr::Ident(root) => {
                !self.bound.contains(root)
                    && matches!(root.as_str(), "object" | "namespaceObject" | "request")
            }
            Expr::Call(call) if call.func_name == CONDITIONAL => {
                call.args.iter().skip(1).any(|branch| self.is_map(branch))
            }
            _ => false,
        }
    }

    fn root(&mut self, root: &str, field: Option<&str>) -> Result<(), String> {
        if self.bound.iter().any(|name| name == root) {
            return Ok(());
        }
        let unknown = |what: &str, field: &str, known: &[String]| {
            let nearest = parameter::nearest(field, known.iter().map(String::as_str));
            let hint = nearest
                .map(|name| format!("; did you mean {name:?}?"))
                .unwrap_or_default();
            Err(format!("there is no {what} {field:?}{hint}"))
        };
        match (root, field) {
            ("params", Some(field)) if self.names.parameters.iter().any(|name| name == field) => {
                Ok(())
            }
            ("params", Some(field)) => unknown("parameter", field, &self.names.parameters),
            ("variables", Some(field)) if self.names.variables.iter().any(|name| name == field) => {
                Ok(())
            }
            ("variables", Some(field)) => unknown("variable", field, &self.names.variables),
            ("params" | "variables", None) => Err(format!(
                "{root} is read by field, as in {root}.name; it is no value of its own"
            )),
            ("request", Some(field)) if REQUEST_FIELDS.contains(&field) => {
                self.reads.request = true;
                Ok(())
            }
            ("request", Some(field)) => Err(format!(
                "request has no field {field:?}; it has {}",
                REQUEST_FIELDS.join(", ")
            )),
            ("request", None) => {
                self.reads.request = true;
                Ok(())
            }
            ("object", _) => {
                self.reads.object = true;
                Ok(())
            }
            ("namespaceObject", _) => {
                self.reads.namespace_object = true;
                Ok(())
            }
            ("instance" | "sidecars", _) => Ok(()),
            _ => {
                let nearest = parameter::nearest(root, ROOTS.into_iter());
                let hint = nearest
                    .map(|name| format!("; did you mean {name:?}?"))
                    .unwrap_or_default();
                Err(format!(
                    "there is no {root:?} here; there are {}{hint}",
                    ROOTS.join(", ")
                ))
            }
        }
    }
}

/// Fields of pods and namespaces that hold maps.
const MAPS: [&str; 8] = [
    "labels",
    "annotations",
    "nodeSelector",
    "matchLabels",
    "limits",
    "requests",
    "volumeAttributes",
    "overhead",
];

/// Functions that CEL has: its operators (written `_+_`, `!_`, `@in`, …), its standard library and the
/// extensions that are switched on.
const STANDARD: &[&str] = &[
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "trim",
    "replace",
    "split",
    "substring",
    "format",
    "reverse",
    "distinct",
    "flatten",
    "slice",
    "sort",
    "sortBy",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
];

pub(super) fn check_function(name: &str) -> Result<(), String> {
    let operator = !name.starts_with(|first: char| first.is_ascii_alphabetic());
    let ours = FUNCTIONS.iter().map(|(function, _)| *function);
    if operator || STANDARD.contains(&name) || ours.clone().any(|function| function == name) {
        return Ok(());
    }
    let nearest = parameter::nearest(name, STANDARD.iter().copied().chain(ours));
    let hint = nearest
        .map(|known| format!("; did you mean {known:?}?"))
        .unwrap_or_default();
    Err(format!("there is no function {name:?}{hint}"))
}
