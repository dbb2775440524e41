# Sourced by scripts that drive a browser: sets DEE_CHROMIUM to Chromium, and installs Debian's when
# there is none and this is root. Fails, saying what to do, when it cannot be had; a caller that sets
# DEE_CHROMIUM keeps its own.

_dee_find_chromium() {
    command -v chromium || command -v chromium-browser || command -v google-chrome
}

_dee_install_chromium() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "error: the pages are tested in a browser; install Debian's chromium (apt-get install chromium), or set DEE_CHROMIUM" >&2
        return 1
    fi
    echo "Installing chromium ..." >&2
    local said
    said="$({ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } 2>&1)" || {
        printf '%s\nerror: installing chromium failed; apt-get says why above\n' "$said" >&2
        return 1
    }
}

if [ -z "${DEE_CHROMIUM:-}" ]; then
    _dee_find_chromium >/dev/null || _dee_install_chromium || exit 1
    DEE_CHROMIUM="$(_dee_find_chromium)" || exit 1
fi
export DEE_CHROMIUM
