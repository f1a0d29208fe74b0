//! CEL expressions: compiled once, with every name they use known to exist.
//!
//! A value that a workload author wrote enters an expression only as a typed value, never as text of
//! the expression itself.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, OnceLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::common::types::{CelInt, CelNull, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::extractors::This;
use cel::objects::Key;
use cel::{Context, Env, ExecutionError, Program, Value as Cel};
use serde_json::Value as Json;

use super::parameter::{self, Value};

/// The names an expression may use, known when its profile is compiled.
#[derive(Debug, Default, Clone)]
pub struct Names {
    /// Declared parameters, in order of declaration.
    pub parameters: Vec<String>,
    /// Variables declared so far, in order of declaration.
    pub variables: Vec<String>,
    /// Those of the variables that are surely maps, which no macro may go through.
    pub maps: Vec<String>,
}

/// What of the request an expression reads, so that only that is made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// `object`: the pod, which then has to be decoded whole.
    pub object: bool,
    /// `namespaceObject`.
    pub namespace_object: bool,
    /// `request` or `sidecars`.
    pub request: bool,
}

impl Reads {
    /// Reads of both.
    pub fn merge(&mut self, other: Self) {
        self.object |= other.object;
        self.namespace_object |= other.namespace_object;
        self.request |= other.request;
    }
}

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    source: String,
    kind: Kind,
    reads: Reads,
}

#[derive(Debug)]
enum Kind {
    /// `instance`, the commonest of all: no interpreter needed.
    Instance,
    /// `params.NAME`, the second commonest.
    Parameter(usize),
    /// Anything else.
    Cel(Box<Program>),
}

/// The values that names have while one instance is rendered.
pub struct Scope<'a> {
    /// The instance's name.
    pub instance: &'a str,
    /// The names that the profile declares.
    pub names: &'a Names,
    /// The parameters' values, in the order of [`Names::parameters`]; `None` is CEL's `null`.
    pub parameters: &'a [Option<Value>],
    /// The variables' values so far, in the order of [`Names::variables`].
    pub variables: Vec<Cel>,
    /// What comes from the request.
    pub request: &'a RequestScope<'a>,
}

/// The values that come from the request; each is made when an expression first reads it.
pub struct RequestScope<'a> {
    object: Lazy<'a>,
    namespace_object: Lazy<'a>,
    request: Lazy<'a>,
    sidecars: &'static str,
}

struct Lazy<'a> {
    make: Box<dyn Fn() -> Json + Send + Sync + 'a>,
    value: OnceLock<Cel>,
}

impl<'a> Lazy<'a> {
    fn new(make: impl Fn() -> Json + Send + Sync + 'a) -> Self {
        Self {
            make: Box::new(make),
            value: OnceLock::new(),
        }
    }

    fn get(&self) -> &Cel {
        self.value.get_or_init(|| json_to_cel(&(self.make)()))
    }
}

impl<'a> RequestScope<'a> {
    /// A scope of three values that are made on demand, and the sidecar mode's name.
    pub fn new(
        object: impl Fn() -> Json + Send + Sync + 'a,
        namespace_object: impl Fn() -> Json + Send + Sync + 'a,
        request: impl Fn() -> Json + Send + Sync + 'a,
        sidecars: &'static str,
    ) -> Self {
        Self {
            object: Lazy::new(object),
            namespace_object: Lazy::new(namespace_object),
            request: Lazy::new(request),
            sidecars,
        }
    }
}

/// Why an expression cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompileError(pub String);

/// Why an expression has no value: always the profile's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{source_text}`: {message}")]
pub struct EvaluationError {
    /// The expression as written.
    pub source_text: String,
    /// What went wrong.
    pub message: String,
}

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

/// The longest source of one expression, in bytes, and the deepest its brackets may stand in each other.
const MAX_SOURCE: usize = 16 * 1024;
const MAX_BRACKETS: usize = 48;
/// The deepest tree that is evaluated: a review runs on a stack of 2 MiB, of which each level takes up to 40 KiB
/// (unoptimised), and a stack that overflows takes the whole process down.
const MAX_DEPTH: usize = 48;

/// The fields of `request`.
const REQUEST_FIELDS: [&str; 4] = ["namespace", "name", "operation", "dryRun"];

/// CEL's name for `condition ? a : b`.
const CONDITIONAL: &str = "_?_:_";

/// Our own functions, beside CEL's standard library and its string and list extensions.
pub const FUNCTIONS: [(&str, &str); 7] = [
    ("host", "the host of a host:port string, without brackets"),
    ("port", "the port of a host:port string, as an integer"),
    ("dirname", "the directory of a path"),
    ("basename", "the last part of a path"),
    (
        "fixedDirectory",
        "the directory of a path before its first wildcard",
    ),
    ("isIP", "whether a string is an IP address"),
    ("json", "a value as JSON text"),
];

static ENVIRONMENT: LazyLock<Result<Arc<Env>, String>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings)
        .map_err(|error| error.to_string())?;
    env.add_extension(cel::extensions::lists)
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(env))
});

static ROOT: LazyLock<Result<Context<'static, 'static>, String>> = LazyLock::new(|| {
    let env = ENVIRONMENT.as_ref().map_err(Clone::clone)?;
    let mut context = Context::with_env(Arc::clone(env));
    add_functions(&mut context).map_err(|error| error.to_string())?;
    Ok(context)
});

fn add_functions(context: &mut Context<'_, '_>) -> Result<(), cel::DeclarationError> {
    fn split(function: &str, text: &str) -> Result<(String, u16), ExecutionError> {
        parameter::host_port::split(text)
            .map(|(host, port)| (host.to_owned(), port))
            .ok_or_else(|| {
                ExecutionError::function_error(function, format!("{text:?} is no host:port"))
            })
    }
    // `This` takes `host(s)` and `s.host()` alike.
    context.add_function("host", |This(text): This<Arc<String>>| {
        split("host", &text).map(|(host, _)| Cel::String(Arc::new(host)))
    })?;
    context.add_function("port", |This(text): This<Arc<String>>| {
        split("port", &text).map(|(_, port)| Cel::Int(i64::from(port)))
    })?;
    context.add_function("dirname", |This(text): This<Arc<String>>| {
        parameter::path::dirname(&text).to_owned()
    })?;
    context.add_function("basename", |This(text): This<Arc<String>>| {
        parameter::path::basename(&text).to_owned()
    })?;
    context.add_function("fixedDirectory", |This(text): This<Arc<String>>| {
        parameter::path::fixed_directory(&text).to_owned()
    })?;
    context.add_function("isIP", |This(text): This<Arc<String>>| {
        text.parse::<std::net::IpAddr>().is_ok()
    })?;
    context.add_function("json", |This(value): This<Cel>| {
        cel_to_json(&value)
            .map(|json| Cel::String(Arc::new(json.to_string())))
            .map_err(|message| ExecutionError::function_error("json", message))
    })
}

impl Expression {
    /// Compiles CEL source, which may use `names`.
    ///
    /// # Errors
    /// Source that does not parse, or that names a root, parameter, variable or function that does not
    /// exist, or that goes through a map in an order that CEL does not define.
    pub fn compile(source: &str, names: &Names) -> Result<Self, CompileError> {
        let trimmed = source.trim();
        if trimmed.is_empty() {
            return Err(CompileError("an empty expression".to_owned()));
        }
        if trimmed.len() > MAX_SOURCE || bracket_depth(trimmed) > MAX_BRACKETS {
            return Err(CompileError(format!(
                "`{}…` is too long or nested too deeply: at most {MAX_SOURCE} bytes and {MAX_BRACKETS} brackets in each other",
                trimmed.chars().take(40).collect::<String>()
            )));
        }
        let env = ENVIRONMENT
            .as_ref()
            .map_err(|error| CompileError(error.clone()))?;
        let program = env.compile(trimmed).map_err(|errors| {
            let all: Vec<_> = errors
                .errors
                .iter()
                .map(|error| format!("{} (column {})", error.msg, error.pos.1))
                .collect();
            CompileError(format!("`{trimmed}` is no CEL: {}", all.join("; ")))
        })?;
        let mut check = NameCheck {
            names,
            bound: Vec::new(),
            reads: Reads::default(),
            depth: 0,
        };
        check
            .expression(program.expression())
            .map_err(|message| CompileError(format!("`{trimmed}`: {message}")))?;
        let reads = check.reads;
        for function in program
            .references()
            .functions()
            .into_iter()
            .collect::<BTreeSet<_>>()
        {
            check_function(function)
                .map_err(|message| CompileError(format!("`{trimmed}`: {message}")))?;
        }
        let kind = match &program.expression().expr {
            Expr::Ident(name) if name == "instance" => Kind::Instance,
            Expr::Select(select) if !select.test => match &select.operand.expr {
                Expr::Ident(root) if root == "params" => {
                    match names
                        .parameters
                        .iter()
                        .position(|name| *name == select.field)
                    {
                        Some(index) => Kind::Parameter(index),
                        None => Kind::Cel(Box::new(program)),
                    }
                }
                _ => Kind::Cel(Box::new(program)),
            },
            _ => Kind::Cel(Box::new(program)),
        };
        Ok(Self {
            source: trimmed.to_owned(),
            kind,
            reads,
        })
    }

    /// The expression as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What of the request it reads.
    pub fn reads(&self) -> Reads {
        self.reads
    }

    /// Whether the expression surely gives a map.
    pub fn is_map(&self) -> bool {
        matches!(&self.kind, Kind::Cel(program) if matches!(program.expression().expr, Expr::Map(_)))
    }

    /// The expression's value as JSON; `null` for CEL's `null`.
    ///
    /// # Errors
    /// An operation that CEL refuses on the values at hand, or a result that JSON cannot hold.
    pub fn json(&self, scope: &Scope<'_>) -> Result<Json, EvaluationError> {
        match &self.kind {
            Kind::Instance => Ok(Json::String(scope.instance.to_owned())),
            Kind::Parameter(index) => Ok(scope
                .parameters
                .get(*index)
                .and_then(Option::as_ref)
                .map_or(Json::Null, Value::to_json)),
            Kind::Cel(_) => {
                cel_to_json(&self.evaluate(scope)?).map_err(|message| self.error(message))
            }
        }
    }

    /// The expression's value, which must be a boolean.
    ///
    /// # Errors
    /// As [`Expression::json`], and any other type.
    pub fn boolean(&self, scope: &Scope<'_>) -> Result<bool, EvaluationError> {
        match self.json(scope)? {
            Json::Bool(value) => Ok(value),
            other => Err(self.error(format!("gives {other}, expected true or false"))),
        }
    }

    /// The expression's value as CEL has it.
    ///
    /// # Errors
    /// As [`Expression::json`].
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Cel, EvaluationError> {
        match &self.kind {
            Kind::Instance => Ok(Cel::String(Arc::new(scope.instance.to_owned()))),
            Kind::Parameter(index) => Ok(scope
                .parameters
                .get(*index)
                .and_then(Option::as_ref)
                .map_or(Cel::Null, value_to_cel)),
            Kind::Cel(program) => {
                let root = ROOT.as_ref().map_err(|error| self.error(error.clone()))?;
                let resolver = Resolver(scope);
                let mut context = inner_scope(root);
                context.set_variable_resolver(&resolver);
                program
                    .execute(&context)
                    .map_err(|error| self.error(error.to_string()))
            }
        }
    }

    fn error(&self, message: String) -> EvaluationError {
        EvaluationError {
            source_text: self.source.clone(),
            message,
        }
    }
}

/// How deep brackets stand in each other. Those in strings count as well: it is only a bound.
fn bracket_depth(source: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A child of the shared root whose values may live as short as the scope does.
fn inner_scope<'p, 'v: 'p>(root: &'p Context<'static, 'static>) -> Context<'p, 'v> {
    let root: &'p Context<'p, 'v> = root;
    root.new_inner_scope()
}

struct Resolver<'s, 'a>(&'s Scope<'a>);

impl VariableResolver for Resolver<'_, '_> {
    /// CEL asks for the longest qualified name first, so a parameter is found under `params.NAME`
    /// without a map of all parameters being made.
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let scope = self.0;
        if let Some(name) = variable.strip_prefix("params.") {
            let index = scope
                .names
                .parameters
                .iter()
                .position(|known| known == name)?;
            return Some(match scope.parameters.get(index)? {
                None => CowVal::owned(CelNull),
                Some(Value::String(text)) => CowVal::owned(CelString::from(text.as_str())),
                Some(Value::Integer(number)) => CowVal::owned(CelInt::from(*number)),
                Some(other) => owned(value_to_cel(other))?,
            });
        }
        if let Some(name) = variable.strip_prefix("variables.") {
            let index = scope
                .names
                .variables
                .iter()
                .position(|known| known == name)?;
            return owned(scope.variables.get(index)?.clone());
        }
        match variable {
            "instance" => Some(CowVal::owned(CelString::from(scope.instance))),
            "object" => owned(scope.request.object.get().clone()),
            "namespaceObject" => owned(scope.request.namespace_object.get().clone()),
            "request" => owned(scope.request.request.get().clone()),
            "sidecars" => Some(CowVal::owned(CelString::from(scope.request.sidecars))),
            _ => None,
        }
    }
}

fn owned<'b>(value: Cel) -> Option<CowVal<'b, 'b>> {
    let value: Box<dyn Val> = value.try_into().ok()?;
    Some(CowVal::Owned(value))
}

/// Checks that every name exists, and notes what is read.
struct NameCheck<'n> {
    names: &'n Names,
    /// Names bound by the macros around the expression at hand.
    bound: Vec<String>,
    reads: Reads,
    /// How deep in the tree the expression at hand stands.
    depth: usize,
}

impl NameCheck<'_> {
    fn expression(&mut self, expression: &IdedExpr) -> Result<(), String> {
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
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(root) => self.root(root, Some(&select.field)),
                _ => self.expression(&select.operand),
            },
            Expr::Call(call) => {
                if let Some(target) = &call.target {
                    self.expression(target)?;
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
            ("request" | "sidecars", _) => {
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
            ("instance", _) => Ok(()),
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

fn check_function(name: &str) -> Result<(), String> {
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

fn value_to_cel(value: &Value) -> Cel {
    match value {
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Integer(number) => Cel::Int(*number),
        Value::Number(number) => Cel::Float(*number),
        Value::Boolean(truth) => Cel::Bool(*truth),
        Value::List(items) => Cel::List(Arc::new(items.iter().map(value_to_cel).collect())),
    }
}

/// JSON as CEL sees it. Integers beyond 64 bits become floating point, as in Kubernetes.
pub fn json_to_cel(json: &Json) -> Cel {
    match json {
        Json::Null => Cel::Null,
        Json::Bool(truth) => Cel::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Cel::Int(integer),
            (None, Some(unsigned)) => Cel::UInt(unsigned),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Cel::String(Arc::new(text.clone())),
        Json::Array(items) => Cel::List(Arc::new(items.iter().map(json_to_cel).collect())),
        Json::Object(entries) => {
            let map: std::collections::HashMap<Key, Cel> = entries
                .iter()
                .map(|(key, value)| (Key::String(Arc::new(key.clone())), json_to_cel(value)))
                .collect();
            Cel::Map(cel::objects::Map { map: Arc::new(map) })
        }
    }
}

/// A CEL value as JSON. Maps come out in the order of their keys, because CEL keeps none.
fn cel_to_json(value: &Cel) -> Result<Json, String> {
    Ok(match value {
        Cel::Null => Json::Null,
        Cel::Bool(truth) => Json::Bool(*truth),
        Cel::Int(number) => Json::from(*number),
        Cel::UInt(number) => Json::from(*number),
        Cel::Float(number) => serde_json::Number::from_f64(*number)
            .map(Json::Number)
            .ok_or_else(|| format!("gives {number}, which JSON cannot hold"))?,
        Cel::String(text) => Json::String(text.as_str().to_owned()),
        Cel::List(items) => Json::Array(items.iter().map(cel_to_json).collect::<Result<_, _>>()?),
        Cel::Map(map) => {
            let mut entries: Vec<(&str, &Cel)> = Vec::with_capacity(map.map.len());
            for (key, value) in map.map.iter() {
                match key {
                    Key::String(text) => entries.push((text.as_str(), value)),
                    other => {
                        return Err(format!(
                            "gives a map with the key {other:?}; keys must be strings"
                        ));
                    }
                }
            }
            entries.sort_unstable_by_key(|(key, _)| *key);
            let mut object = serde_json::Map::with_capacity(entries.len());
            for (key, value) in entries {
                object.insert(key.to_owned(), cel_to_json(value)?);
            }
            Json::Object(object)
        }
        other => return Err(format!("gives {other:?}, which JSON cannot hold")),
    })
}
