//! `outrigger profile docs`: the reference of profiles, in Markdown.
//!
//! A page a profile and a list of them. Nothing in it changes unless a profile does in a way that its users see:
//! no revision, no version, no date.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value as Json, json};

use super::example::{Answer, Example, PORT};
use crate::inject::problem;
use crate::manifest;
use crate::profile::compile::BUILT_IN;
use crate::profile::document::LabelSelector;
use crate::profile::parameter::{Value, kebab_case};
use crate::profile::template::replace_expressions;
use crate::profile::{Document, Parameter, Profile, SettableBy};
use crate::yaml;

/// What a file says first.
const GENERATED: &str =
    "<!-- Written by `outrigger profile docs` from the profiles; change those instead. -->\n";

/// Writes the pages to files in a folder, with a list in `README.md`; or one after the other to `out`.
///
/// # Errors
/// A file that cannot be written.
pub(super) fn docs(
    profiles: &[Arc<Profile>],
    folder: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let Some(folder) = folder else {
        for (index, profile) in profiles.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            out.write_all(page(profile)?.as_bytes())?;
        }
        return Ok(());
    };
    fs::create_dir_all(folder)
        .with_context(|| format!("--output {}: cannot be created", folder.display()))?;
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, format!("{GENERATED}\n{text}"))
            .with_context(|| format!("--output {}: cannot be written", path.display()))
    };
    for profile in profiles {
        write(&format!("{}.md", profile.name), &page(profile)?)?;
    }
    write("README.md", &index(profiles))
}

/// The list of profiles, those that are built in first.
fn index(profiles: &[Arc<Profile>]) -> String {
    let mut text = String::from(
        "# Profiles\n\nA pod asks for profiles with the annotation `outrigger.dev/inject`, and sets a profile's parameters with \
         annotations `PROFILE.outrigger.dev/PARAMETER`. In a Deployment, and whatever else makes pods, annotations of the \
         pod stand in `spec.template.metadata`.\n",
    );
    let (built_in, others): (Vec<_>, Vec<_>) =
        profiles.iter().partition(|profile| is_built_in(profile));
    let mut list = |title: &str, profiles: &[&Arc<Profile>]| {
        if profiles.is_empty() {
            return;
        }
        let _ = write!(
            text,
            "\n## {title}\n\n| profile | what it does |\n|---|---|\n"
        );
        for profile in profiles {
            let name = &profile.name;
            let _ = writeln!(
                text,
                "| [{name}]({name}.md) | {} |",
                Words::of(profile).cell(&profile.summary)
            );
        }
    };
    list("Built in", &built_in);
    list("To be installed", &others);
    text
}

fn is_built_in(profile: &Profile) -> bool {
    profile.source == BUILT_IN
}

/// The page of a profile.
///
/// # Errors
/// A fault of this program: a profile that was read cannot be read again.
fn page(profile: &Arc<Profile>) -> anyhow::Result<String> {
    let example = Example::of(profile)?;
    let words = Words::of(profile);
    let mut text = format!("# {}\n\n{}\n", profile.name, words.prose(&profile.summary));
    if let Some(description) = &profile.description {
        let _ = write!(text, "\n{}\n", words.prose(description.trim_end()));
    }
    let origin = if is_built_in(profile) {
        "Built in.".to_owned()
    } else {
        format!(
            "Not built in: an administrator installs it, from {}.",
            code(&profile.source)
        )
    };
    let _ = write!(text, "\n{origin}\n");
    scope(profile, &mut text);
    usage(profile, &example, &mut text)?;
    parameters(profile, &words, &mut text);
    rules(profile, &words, &mut text)?;
    adds(&example, &mut text);
    Ok(text)
}

/// Where the profile may be used, and who gets it without asking.
fn scope(profile: &Profile, text: &mut String) {
    let selector = |selector: &LabelSelector| code(&selector.to_string());
    if let Some(allow) = profile.allow.as_ref() {
        let _ = write!(
            text,
            "\nOnly for namespaces with the labels {}.\n",
            selector(&allow.namespace_selector)
        );
    }
    let Some(wanted) = &profile.selector else {
        return;
    };
    let parts: Vec<_> = [
        ("pods", &wanted.pod_selector),
        ("namespaces", &wanted.namespace_selector),
    ]
    .into_iter()
    .filter_map(|(what, labels)| {
        Some(format!(
            "{what} with the labels {}",
            selector(labels.as_ref()?)
        ))
    })
    .collect();
    if !parts.is_empty() {
        let _ = write!(
            text,
            "\nWithout asking, in namespaces with the label `outrigger.dev/injection: enabled`: {}.\n",
            parts.join(" in ")
        );
    }
}

fn usage(profile: &Profile, example: &Example, text: &mut String) -> anyhow::Result<()> {
    let mut block = |lead: &str, value: &Json| -> anyhow::Result<()> {
        let yaml = manifest::to_yaml(value)?;
        let _ = write!(text, "{lead}\n```yaml\n{yaml}```\n");
        Ok(())
    };
    let annotations = example.annotations(&profile.name);
    block("", &json!({"metadata": {"annotations": annotations}}))?;
    if !example.namespace_parameters.is_empty() {
        let annotations: Json = example
            .namespace_parameters
            .iter()
            .map(|(key, value)| (key.clone(), Json::from(value.as_str())))
            .collect();
        block(
            "\nand on the namespace:\n",
            &json!({"metadata": {"annotations": annotations}}),
        )?;
    }
    if !example.admin_parameters.is_empty() {
        let values: Json = example.admin_parameters.iter().cloned().collect();
        block(
            "\nwhere the administrator has set:\n",
            &json!({"profileDefaults": {&profile.name: values}}),
        )?;
    }
    Ok(())
}

fn parameters(profile: &Profile, words: &Words<'_>, text: &mut String) {
    let name = &profile.name;
    if profile.parameters.is_empty() {
        text.push_str("\nIt has no parameters.\n");
        return;
    }
    let groups = [
        (
            SettableBy::Pod,
            "Parameters",
            format!(
                "Each is an annotation `{name}.outrigger.dev/PARAMETER` of the pod, or `INSTANCE.outrigger.dev/PARAMETER` \
                 where the pod gives the instance a name of its own, as in `outrigger.dev/inject: INSTANCE={name}`. \
                 The namespace's annotations and the administrator's `profileDefaults` set those that the pod does not."
            ),
        ),
        (
            SettableBy::Namespace,
            "Parameters of the namespace",
            format!(
                "Each is an annotation `{name}.outrigger.dev/PARAMETER` of the namespace, else the administrator's \
                 default. A pod cannot set them."
            ),
        ),
        (
            SettableBy::Admin,
            "Parameters of the administrator",
            format!("Only the administrator sets these, in `profileDefaults.{name}`."),
        ),
    ];
    for (who, title, how) in groups {
        let group: Vec<_> = profile
            .parameters
            .iter()
            .filter(|parameter| parameter.settable_by == who)
            .collect();
        if group.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "\n## {title}\n\n{how}\n\n| parameter | value | default | what it is for |\n|---|---|---|---|\n"
        );
        for parameter in group {
            row(parameter, words, text);
        }
    }
}

fn row(parameter: &Parameter, words: &Words<'_>, text: &mut String) {
    let name = code(shown_name(parameter));
    let expected = parameter.expected();
    let mut value = match expected.split_once(" that matches ") {
        Some((what, pattern)) => format!("{} that matches {}", plain(what), code(pattern)),
        None => plain(&expected),
    };
    if let Some(bounds) = parameter.bounds() {
        let _ = write!(value, "; {bounds}");
    }
    let default = match &parameter.default {
        Some(Value::List(items)) if items.is_empty() => "an empty list".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "empty".to_owned(),
        Some(default) => code(&default.to_text()),
        None if parameter.required => "**required**".to_owned(),
        None => "none".to_owned(),
    };
    let mut purpose = words.cell(&parameter.description);
    if let Some(example) = &parameter.example {
        let _ = write!(purpose, " Example: {}", in_table(&code(example)));
    }
    let _ = writeln!(
        text,
        "| {name} | {} | {} | {purpose} |",
        in_table(&value),
        in_table(&default)
    );
}

/// What is refused and what is advised, in the profile's own messages.
fn rules(profile: &Profile, words: &Words<'_>, text: &mut String) -> anyhow::Result<()> {
    let tree = yaml::read(&profile.text)
        .map_err(|error| anyhow::anyhow!("{}: {error}", profile.source))?;
    let spec = Document::decode(&tree)
        .map_err(|_| anyhow::anyhow!("{}: cannot be read again", profile.source))?
        .spec;
    let message = |message: &str| {
        // What stands there instead only a pod knows.
        let message = replace_expressions(message, "…");
        words.prose(message.trim()).replace('\n', " ")
    };
    if !spec.validations.is_empty() {
        text.push_str("\n## Rules\n\nA pod is refused with one of these messages where its parameters do not go together:\n\n");
    }
    for rule in &spec.validations {
        match &rule.parameter {
            Some(parameter) => {
                let name = code(&kebab_case(parameter));
                let _ = writeln!(text, "- {name}: {}", message(&rule.message));
            }
            None => {
                let _ = writeln!(text, "- {}", message(&rule.message));
            }
        }
    }
    if !spec.warnings.is_empty() {
        text.push_str("\n## Warnings\n\nWhoever applies the pod may be told:\n\n");
    }
    for warning in &spec.warnings {
        let _ = writeln!(text, "- {}", message(&warning.message));
    }
    Ok(())
}

fn adds(example: &Example, text: &mut String) {
    text.push_str("\n## What it adds\n\n");
    match &example.answer {
        Answer::Denied(problems) => {
            let _ = writeln!(
                text,
                "That depends on the pod. One with a container on port {PORT} and the annotations above is refused:\n\n```text\n{}\n```",
                problem::message(problems)
            );
        }
        Answer::Injected { adds, .. } => {
            let _ = writeln!(
                text,
                "With the annotations above, a pod with one container on port {} gets:\n",
                example.port
            );
            for addition in adds {
                let items: Vec<_> = addition
                    .items
                    .iter()
                    .map(|item| match &item.detail {
                        Some(detail) => format!("{} ({})", code(&item.name), code(detail)),
                        None => code(&item.name),
                    })
                    .collect();
                let _ = writeln!(text, "- {}: {}", addition.what, items.join(", "));
            }
            if adds.is_empty() {
                text.push_str("- nothing\n");
            }
        }
    }
}

/// Text as code: between more backticks than it holds in a row (CommonMark, 6.1).
fn code(text: &str) -> String {
    let text = text.replace('\n', " ");
    let longest = text
        .split(|character| character != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // A space goes between fences and backticks, which Markdown takes away again.
    let pad = if text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// Text that holds no Markdown, with what would be some escaped.
fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let after = characters.peek().copied().unwrap_or(' ');
        let means_something = match character {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '~' => true,
            // Inside of a word it is itself.
            '_' => !(before.is_alphanumeric() && after.is_alphanumeric()),
            _ => false,
        };
        if means_something {
            escaped.push('\\');
        }
        escaped.push(character);
        before = character;
    }
    escaped
}

/// How a parameter is called by whoever sets it.
fn shown_name(parameter: &Parameter) -> &str {
    match parameter.settable_by {
        SettableBy::Pod | SettableBy::Namespace => &parameter.kebab,
        // There is no annotation.
        SettableBy::Admin => &parameter.name,
    }
}

/// A profile's own words about its parameters, for which it uses their names in camelCase.
struct Words<'p> {
    parameters: &'p [Parameter],
}

impl<'p> Words<'p> {
    fn of(profile: &'p Profile) -> Self {
        Self {
            parameters: &profile.parameters,
        }
    }

    fn parameter(&self, word: &str) -> Option<&'p Parameter> {
        self.parameters
            .iter()
            .find(|parameter| parameter.name == word)
    }

    /// Markdown: code between backticks is the profile's, and what else would be read as Markdown or HTML by
    /// accident (`*.log`, `<name>`) is escaped. Parameters are called by the names under which they are set.
    fn prose(&self, text: &str) -> String {
        let mut parts = text.split('`').peekable();
        let mut escaped = String::with_capacity(text.len());
        let mut is_code = false;
        while let Some(part) = parts.next() {
            match (is_code, parts.peek()) {
                (true, Some(_)) => {
                    let part = self.parameter(part).map_or(part, shown_name);
                    let _ = write!(escaped, "`{part}`");
                }
                // A backtick without its other.
                (true, None) => {
                    let _ = write!(escaped, "\\`{}", self.plain(part));
                }
                (false, _) => escaped.push_str(&self.plain(part)),
            }
            is_code = !is_code;
        }
        escaped
    }

    /// As [`plain`]. A word is a parameter's name only if it can be nothing else, as listenPort; port may be a word.
    fn plain(&self, text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        let mut waiting = String::new();
        for piece in text.split_inclusive(|character: char| !character.is_ascii_alphanumeric()) {
            let word = piece.trim_end_matches(|character: char| !character.is_ascii_alphanumeric());
            let compound = word.bytes().any(|byte| byte.is_ascii_uppercase());
            match self.parameter(word).filter(|_| compound) {
                Some(parameter) => {
                    escaped.push_str(&plain(&std::mem::take(&mut waiting)));
                    escaped.push_str(&code(shown_name(parameter)));
                    waiting.push_str(&piece[word.len()..]);
                }
                None => waiting.push_str(piece),
            }
        }
        escaped.push_str(&plain(&waiting));
        escaped
    }

    /// The same as a cell of a table.
    fn cell(&self, text: &str) -> String {
        in_table(&self.prose(text.trim()).replace('\n', " "))
    }
}

/// Markdown as a cell of a table, where a `|` ends the cell, in code too (GitHub Flavored Markdown, 4.10).
fn in_table(markdown: &str) -> String {
    markdown.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Words, code, in_table, page, plain};
    use crate::profile::Profile;

    #[test]
    fn text_stays_text() {
        assert_eq!(code("a"), "`a`");
        assert_eq!(code("a``b"), "```a``b```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(plain("[a-z]*_<b>"), "\\[a-z\\]\\*\\_\\<b\\>");
        assert_eq!(plain("a_b _c"), "a_b \\_c");
        let words = Words { parameters: &[] };
        assert_eq!(words.prose("`*.log` and *.log"), "`*.log` and \\*.log");
        assert_eq!(words.prose("a ` b*"), "a \\` b\\*");
        assert_eq!(words.cell("a | b\nc\n"), "a \\| b c");
        assert_eq!(in_table(&code("a|b")), "`a\\|b`");
    }

    #[test]
    fn a_page_has_everything_that_a_user_sees() {
        let profile = Profile::parse(
            "my.yaml",
            "apiVersion: outrigger.dev/v1alpha1\nkind: SidecarProfile\nmetadata: {name: t}\nspec:\n  summary: Does <it>.\n  description: |\n    More `about` it.\n  allow: {namespaceSelector: {matchLabels: {team: a}}}\n  match: {podSelector: {matchLabels: {b: c}}}\n  parameters:\n    kindOf: {type: string, pattern: 'a|b', required: true, description: 'Which | of both, not fullImage.', example: a}\n    names: {type: array, items: {type: string, maxLength: 5}, minItems: 1, maxItems: 3, default: [x], description: Names.}\n    level: {type: integer, minimum: 1, settableBy: Namespace, required: true, description: How much., example: 7}\n    fullImage: {type: string, settableBy: Admin, required: true, description: Image., example: i}\n  validations:\n    - {expression: 'true', message: 'not kindOf with ${object.metadata.name}', parameter: names}\n  warnings:\n    - {when: 'false', message: careful}\n  containers:\n    - {name: '${instance}', image: '${params.fullImage}', resources: {limits: {cpu: '1'}}}\n",
        )
        .unwrap();
        let page = page(&Arc::new(profile)).unwrap();
        for part in [
            "# t\n\nDoes \\<it\\>.\n\nMore `about` it.\n",
            "Not built in: an administrator installs it, from `my.yaml`.",
            "Only for namespaces with the labels `team=a`.",
            "pods with the labels `b=c`.",
            "```yaml\nmetadata:\n  annotations:\n    outrigger.dev/inject: t\n    t.outrigger.dev/kind-of: a\n```",
            "and on the namespace:\n\n```yaml\nmetadata:\n  annotations:\n    t.outrigger.dev/level: \"7\"\n```",
            "profileDefaults:\n  t:\n    fullImage: i\n",
            "| `kind-of` | text that matches `a\\|b` | **required** | Which \\| of both, not `fullImage`. Example: `a` |",
            "| `names` | a comma-separated list, each text; 1 to 3 items, each of at most 5 characters | `x` | Names. |",
            "| `level` | an integer of at least 1 | **required** | How much. Example: `7` |",
            "| `fullImage` | text | **required** | Image. Example: `i` |",
            "- `names`: not `kind-of` with …\n",
            "- careful\n",
            "- containers: `t` (`i`)\n",
        ] {
            assert!(page.contains(part), "{part}\n\n{page}");
        }
    }
}
