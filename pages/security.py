"""Headers of every response, and who may come in. Uses the standard library alone, as the page of the start does."""

import os

from metalora.util.errors import InputError

AUTH = "METALORA_AUTH"
HUGGING_FACE = "https://huggingface.co https://*.huggingface.co https://*.hf.space"


def security_headers() -> dict[str, str]:
    """Return the headers of every response.

    Gradio and Plotly make functions and styles from text, and images and workers from blobs; a Space is shown in a
    frame of Hugging Face and resized by a script of theirs. Nothing else comes from elsewhere.
    """
    on_space = "SPACE_ID" in os.environ
    frames = f" {HUGGING_FACE}" if on_space else ""
    script = " https://cdnjs.cloudflare.com https://huggingface.co" if on_space else ""
    policy = {
        "default-src": "'self'",
        "script-src": f"'self' 'unsafe-inline' 'unsafe-eval' blob:{script}",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "media-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": f"'self' data: blob:{frames}",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": f"'self'{frames}",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer" if not on_space else "strict-origin-when-cross-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    }


def credentials() -> tuple[str, str] | None:
    """Return user and password that METALORA_AUTH asks of everybody, as USER:PASSWORD; None: of nobody.

    Raises:
        InputError: it is of another form.
    """
    text = os.environ.get(AUTH, "")
    user, colon, password = text.partition(":")
    if text and not (user and colon and password):
        raise InputError(f"{AUTH} has another form: set it to USER:PASSWORD.")
    return (user, password) if text else None
