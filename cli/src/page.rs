//! docs/providers.md.

use std::io::Write;

use crate::{
    Stop,
    providers::{Provider, algorithms},
};

const INTRODUCTION: &str = "\
# Providers

<!-- Written by `posthouse providers --markdown > docs/providers.md`; change shared/presets/ instead. -->

These come configured: name one as the `scheme` of a [source](configuration.md#sources-who-may-send). Each is a file in
[shared/presets](../shared/presets). `posthouse providers NAME` shows the same as below, and with `--inline` the scheme as a part of
`gateway.toml`, to be changed there. To try one, see [cli.md](cli.md).

*Known from* says how far a scheme can be relied on. Those that follow *the vendor's tests* are, most of them, held to the verdicts
of those tests by the [vectors](../tests/vectors/README.md). *Unconfirmed* ones are written from general knowledge: try them first.

*Deadline* is how long the provider waits for an answer, and *retries* is what it does when it gets none; both are left
out where they are not known.
";

/// Writes the whole page.
pub(crate) fn write(out: &mut impl Write) -> Result<(), Stop> {
    let providers: Vec<Provider> = Provider::all().collect::<Result<_, _>>()?;
    writeln!(out, "{INTRODUCTION}")?;
    writeln!(out, "| name | provider | algorithm | known from |\n| --- | --- | --- | --- |")?;
    for Provider { name, preset, .. } in &providers {
        let (algorithms, known) = (algorithms(&preset.scheme), preset.verified.words());
        writeln!(out, "| [{name}](#{name}) | {} | {algorithms} | {known} |", preset.name)?;
    }
    for provider in &providers {
        write_section(out, provider)?;
    }
    Ok(())
}

fn write_section(out: &mut impl Write, provider: &Provider) -> Result<(), Stop> {
    let Provider { name, preset, .. } = provider;
    writeln!(out, "\n## {name}\n\n[{}]({})\n", preset.name, preset.documentation)?;
    for (label, value) in provider.facts().into_iter().filter(|(label, _)| *label != "read") {
        writeln!(out, "- {label}: {}", as_code(label, &value))?;
    }
    for note in &preset.notes {
        writeln!(out, "- {note}")?;
    }
    writeln!(out, "\n```toml\n{}```\n", provider.settings())?;
    writeln!(out, "Into {}.", provider.secrets().join(". Into "))?;
    Ok(())
}

/// Places as code, since Markdown would read stars in them.
fn as_code(label: &str, value: &str) -> String {
    if matches!(label, "event id" | "event type") && value.contains(":") { format!("`{value}`") } else { value.to_owned() }
}
