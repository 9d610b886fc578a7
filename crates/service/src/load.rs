//! CPU load and admission.
