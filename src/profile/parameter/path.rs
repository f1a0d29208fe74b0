//! Paths inside of containers.

/// The directory that a path is in.
pub fn dirname(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((directory, _)) => directory,
    }
}

/// The last part of a path.
pub fn basename(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit_once('/')
        .map_or(path, |(_, name)| name)
}

/// The directory of a path, or of its part before the first wildcard: what has to be mounted so that all the
/// files are seen.
pub fn fixed_directory(path: &str) -> &str {
    let fixed = path
        .find(['*', '?'])
        .map_or(path, |wildcard| &path[..wildcard]);
    match fixed.rfind('/') {
        Some(0) | None => "/",
        Some(slash) => &fixed[..slash],
    }
}

/// Why a path is not one at which a volume may stand in the application. Unlike files to read, these may be below
/// /etc, where many a program has its configuration; what Kubernetes and the image keep there stays.
pub(super) fn check_mount(path: &str) -> Result<(), String> {
    const KEPT: [&str; 7] = [
        "hosts",
        "hostname",
        "resolv.conf",
        "passwd",
        "group",
        "shadow",
        "ssl",
    ];
    match path.strip_prefix("/etc/") {
        Some(rest) => {
            let first = rest.split('/').next().unwrap_or_default();
            if KEPT.contains(&first) {
                return Err(format!("/etc/{first} belongs to the system"));
            }
            check_absolute(&format!("/below/{rest}"))
        }
        None => check_absolute(path),
    }
}

/// Why a path is not one that may be mounted or read.
pub(super) fn check_absolute(path: &str) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err("it does not begin with /".to_owned());
    };
    if rest.is_empty() {
        return Err("the root is not allowed".to_owned());
    }
    if rest
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return Err(
            "an empty part, \".\" or \"..\" is not allowed, nor a slash at the end".to_owned(),
        );
    }
    if path.contains([':', '\\']) {
        return Err("':' and '\\' are not allowed".to_owned());
    }
    let below = |root: &str| {
        path == root
            || path
                .strip_prefix(root)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    let above = |leaf: &str| {
        leaf.strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let system = ["/proc", "/sys", "/etc", "/run/secrets", "/var/run/secrets"]
        .into_iter()
        .find(|root| below(root));
    if let Some(system) = system.or((below("/dev") && !below("/dev/shm")).then_some("/dev")) {
        return Err(format!("{system} belongs to the system"));
    }
    if above(TOKEN) || path == "/run" {
        return Err("the ServiceAccount token is mounted below it".to_owned());
    }
    Ok(())
}

/// Why a path with wildcards is not one whose files may be read. The first two parts are fixed, so that the
/// directory that is shared is one application's, and no part is `**`, which would walk everything below.
pub(super) fn check_glob(path: &str) -> Result<(), String> {
    check_absolute(path)?;
    if path.contains("**") {
        return Err("\"**\" is not allowed".to_owned());
    }
    if path.contains(['[', ']', '{', '}', ',']) {
        return Err("the only wildcards are '*' and '?'".to_owned());
    }
    let fixed = fixed_directory(path);
    if path.contains(['*', '?']) && fixed.matches('/').count() < 2 {
        return Err(
            "a wildcard may stand only below a directory of two parts, as in /var/log/*.log"
                .to_owned(),
        );
    }
    if fixed == "/" {
        return Err("a file directly in the root cannot be shared".to_owned());
    }
    check_absolute(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_directory_ends_before_the_first_wildcard() {
        assert_eq!(fixed_directory("/var/log/nginx/*.log"), "/var/log/nginx");
        assert_eq!(fixed_directory("/var/log/*/access.log"), "/var/log");
        assert_eq!(fixed_directory("/var/log/app.log"), "/var/log");
        assert_eq!(fixed_directory("/data/a?c/x"), "/data");
        assert_eq!(fixed_directory("/*"), "/");
    }

    #[test]
    fn paths_of_the_system_are_refused() {
        for bad in [
            "",
            "relative",
            "/",
            "//a",
            "/a/",
            "/a/../b",
            "/a/./b",
            "/proc",
            "/proc/1",
            "/sys/x",
            "/etc/shadow",
            "/dev",
            "/dev/sda",
            "/var",
            "/var/run",
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            "/a:b",
            "/run/secrets/x",
            "/run",
        ] {
            assert!(check_absolute(bad).is_err(), "{bad}");
        }
        for good in ["/data", "/var/log/app", "/dev/shm", "/srv/www", "/var/log"] {
            assert_eq!(check_absolute(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn volumes_may_stand_below_etc_but_not_in_the_way() {
        for bad in [
            "/etc",
            "/etc/",
            "/etc/ssl/certs",
            "/etc/passwd",
            "/etc/a/../b",
            "/proc/x",
            "etc/x",
        ] {
            assert!(check_mount(bad).is_err(), "{bad}");
        }
        for good in ["/etc/nginx/conf.d", "/etc/prometheus", "/data", "/etc/run"] {
            assert_eq!(check_mount(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn globs_stay_in_one_directory() {
        for bad in [
            "/*",
            "/var/*",
            "/var/log/**",
            "/etc/**",
            "/**/x",
            "/var/log/{a,b}",
            "/x.log",
            "/v*/log/x",
        ] {
            assert!(check_glob(bad).is_err(), "{bad}");
        }
        for good in [
            "/var/log/nginx/*.log",
            "/var/log/*.log",
            "/var/log/*/x.log",
            "/data/app.log",
        ] {
            assert_eq!(check_glob(good), Ok(()), "{good}");
        }
    }
}
