//! CEL expressions: compiled once, with every name they use known to exist.
//!
//! A value that a workload author wrote enters an expression only as a typed value, never as text of
//! the expression itself.

mod convert;
mod names;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, OnceLock};

use cel::common::ast::Expr;
use cel::common::types::{CelNull, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::extractors::This;
use cel::{Context, Env, ExecutionError, Program, Value as Cel};
use serde_json::Value as Json;

use super::parameter::{self, Value};
use super::pattern;
pub use convert::json_to_cel;
use convert::{cel_to_json, value_to_cel};
use names::{NameCheck, check_function};

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

/// What an expression reads besides parameters, variables, `instance` and `sidecars`: what it gives is the same for
/// all pods of which this is the same.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// Anything of `object`, the pod, but for its security context.
    pub object: bool,
    /// `object.spec.securityContext`, or something in it.
    pub security_context: bool,
    /// `namespaceObject`.
    pub namespace_object: bool,
    /// `request`.
    pub request: bool,
}

impl Reads {
    /// Reads of both.
    pub fn merge(&mut self, other: Self) {
        self.object |= other.object;
        self.security_context |= other.security_context;
        self.namespace_object |= other.namespace_object;
        self.request |= other.request;
    }
}

/// A compiled expression. A clone shares what was compiled.
#[derive(Debug, Clone)]
pub struct Expression {
    source: String,
    kind: Kind,
    reads: Reads,
}

#[derive(Debug, Clone)]
enum Kind {
    /// `instance`, the commonest of all: no interpreter needed.
    Instance,
    /// `params.NAME`, the second commonest.
    Parameter(usize),
    /// Anything else.
    Cel(Arc<Program>),
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
    pub variables: Vec<Box<dyn Val>>,
    /// What comes from the request.
    pub request: &'a RequestScope<'a>,
}

/// What a request tells to expressions.
pub trait Requested: Sync {
    /// `object`.
    fn object(&self) -> Json;
    /// An `object` with nothing but `spec.securityContext`, for expressions that read nothing else of it: a pod is large.
    fn security_context(&self) -> Json;
    /// `namespaceObject`.
    fn namespace_object(&self) -> Json;
    /// `request`.
    fn request(&self) -> Json;
    /// The name of the sidecar mode.
    fn sidecars(&self) -> &'static str;
}

/// The values that come from the request; each is made when an expression first reads it.
pub struct RequestScope<'a> {
    requested: &'a dyn Requested,
    object: Lazy,
    security_context: Lazy,
    namespace_object: Lazy,
    request: Lazy,
}

#[derive(Default)]
struct Lazy(OnceLock<Box<dyn Val>>);

impl Lazy {
    fn get(&self, make: impl FnOnce() -> Json) -> &dyn Val {
        &**self.0.get_or_init(|| json_to_cel(make()))
    }
}

impl<'a> RequestScope<'a> {
    /// A scope of which nothing is made yet.
    pub fn new(requested: &'a dyn Requested) -> Self {
        Self {
            requested,
            object: Lazy::default(),
            security_context: Lazy::default(),
            namespace_object: Lazy::default(),
            request: Lazy::default(),
        }
    }

    /// A value by its name. `whole` is whether more of `object` is read than the security context.
    fn value(&self, name: &str, whole: bool) -> Option<CowVal<'_, '_>> {
        let requested = self.requested;
        Some(CowVal::Borrowed(match name {
            "object" if whole => self.object.get(|| requested.object()),
            "object" => self.security_context.get(|| requested.security_context()),
            "namespaceObject" => self.namespace_object.get(|| requested.namespace_object()),
            "request" => self.request.get(|| requested.request()),
            "sidecars" => return Some(CowVal::owned(CelString::from(requested.sidecars()))),
            _ => return None,
        }))
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

/// The longest source of one expression, in bytes, and the deepest its brackets may stand in each other.
const MAX_SOURCE: usize = 16 * 1024;
const MAX_BRACKETS: usize = 48;

/// Our own functions, beside CEL's standard library and its string and list extensions.
pub const FUNCTIONS: [(&str, &str); 9] = [
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
    (
        "quantity",
        "the amount of a Kubernetes quantity, in bytes or cores, as a double",
    ),
    ("milliseconds", "the length of a duration, as an integer"),
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
    // CEL's own compiles the pattern each time. That feature of the interpreter is off, so that this one counts.
    context.add_function(
        "matches",
        |This(text): This<Arc<String>>, pattern: Arc<String>| {
            pattern::compiled(&pattern)
                .map(|regex| regex.is_match(&text))
                .map_err(|error| {
                    ExecutionError::function_error("matches", pattern::in_words(&pattern, &error))
                })
        },
    )?;
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
    context.add_function("quantity", |This(text): This<Arc<String>>| {
        parameter::quantity::Quantity::parse(&text)
            .map(|quantity| Cel::Float(quantity.amount()))
            .map_err(|message| ExecutionError::function_error("quantity", message))
    })?;
    context.add_function("milliseconds", |This(text): This<Arc<String>>| {
        parameter::format::milliseconds(&text)
            .map(|milliseconds| Cel::Int(i64::try_from(milliseconds).unwrap_or(i64::MAX)))
            .map_err(|message| ExecutionError::function_error("milliseconds", message))
    })?;
    context.add_function("json", |This(value): This<Cel>| {
        cel_to_json(value)
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
                        None => Kind::Cel(Arc::new(program)),
                    }
                }
                _ => Kind::Cel(Arc::new(program)),
            },
            _ => Kind::Cel(Arc::new(program)),
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
            Kind::Cel(program) => {
                cel_to_json(self.run(program, scope)?).map_err(|message| self.error(message))
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
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Box<dyn Val>, EvaluationError> {
        let value = match &self.kind {
            Kind::Instance => return Ok(Box::new(CelString::from(scope.instance.to_owned()))),
            Kind::Parameter(index) => {
                let value = scope.parameters.get(*index).and_then(Option::as_ref);
                return Ok(json_to_cel(value.map_or(Json::Null, Value::to_json)));
            }
            Kind::Cel(program) => self.run(program, scope)?,
        };
        value
            .try_into()
            .map_err(|error: ExecutionError| self.error(error.to_string()))
    }

    fn run(&self, program: &Program, scope: &Scope<'_>) -> Result<Cel, EvaluationError> {
        let root = ROOT.as_ref().map_err(|error| self.error(error.clone()))?;
        let resolver = Resolver {
            scope,
            whole_object: self.reads.object,
        };
        let mut context = inner_scope(root);
        context.set_variable_resolver(&resolver);
        program
            .execute(&context)
            .map_err(|error| self.error(error.to_string()))
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

struct Resolver<'s, 'a> {
    scope: &'s Scope<'a>,
    /// Whether more is read of `object` than the security context.
    whole_object: bool,
}

impl VariableResolver for Resolver<'_, '_> {
    /// CEL asks for the longest qualified name first, so a parameter is found under `params.NAME`
    /// without a map of all parameters being made.
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let scope = self.scope;
        if let Some(name) = variable.strip_prefix("params.") {
            let index = scope
                .names
                .parameters
                .iter()
                .position(|known| known == name)?;
            return Some(match scope.parameters.get(index)? {
                None => CowVal::owned(CelNull),
                Some(value) => CowVal::Owned(value_to_cel(value)),
            });
        }
        if let Some(name) = variable.strip_prefix("variables.") {
            let index = scope
                .names
                .variables
                .iter()
                .position(|known| known == name)?;
            return Some(CowVal::Borrowed(&**scope.variables.get(index)?));
        }
        match variable {
            "instance" => Some(CowVal::owned(CelString::from(scope.instance))),
            name => scope.request.value(name, self.whole_object),
        }
    }
}
