"""Every failure a user can meet: one class each, a sentence with numbers and a way out."""


class TonnageError(Exception):
    """Base of all errors the command line turns into one sentence and exit code 2."""


class UnitError(TonnageError):
    """A number of bytes that cannot be read."""


class FileFormatError(TonnageError):
    """A model file is truncated, corrupted or hostile."""


class UnsupportedTypeError(TonnageError):
    """A tensor has a block type that is not implemented."""


class UnsupportedModelError(TonnageError):
    """The architecture, or a configuration value of it, is not implemented."""


class TensorMismatchError(TonnageError):
    """Tensors are missing, left over or of the wrong shape; all are listed at once."""


class TokenizerError(TonnageError):
    """A tokenizer cannot be built from its data."""


class ChatTemplateError(TonnageError):
    """A chat template is hostile, broken or refuses the messages."""


class NoChatTemplateError(ChatTemplateError):
    """A base model was asked to chat."""


class ModelNotFoundError(TonnageError):
    """A model name or path resolves to nothing."""


class CatalogError(TonnageError):
    """A catalog of models is missing, unreadable or wrong; all its mistakes are listed at once."""


class PullError(TonnageError):
    """A download failed or arrived different from what was promised."""


class CacheError(TonnageError):
    """The model cache cannot be read or written."""


class ContextLengthError(TonnageError):
    """A prompt does not fit the context."""


class BudgetError(TonnageError):
    """A plan does not fit the bytes it may use."""


class PlanFileError(TonnageError):
    """A file is no plan, or a plan for something else."""


class IsaError(TonnageError):
    """The instruction set asked for is not one this CPU has."""


class RequestError(TonnageError):
    """A generation parameter is outside its range."""


class LogitsError(TonnageError):
    """The model's numbers overflowed: logits are not finite, so there is nothing to draw from."""


class OverloadError(TonnageError):
    """A request that cannot be taken now, or ever.

    missing_bytes: how many bytes of KV pages are short, 0 where places in the queue are.
    retry_after_s: when it may work, None for never.
    """

    def __init__(
        self, message: str, *, missing_bytes: int = 0, retry_after_s: float | None = None
    ) -> None:
        """Take the sentence and its two numbers."""
        super().__init__(message)
        self.missing_bytes = missing_bytes
        self.retry_after_s = retry_after_s


class DeadlineError(TonnageError):
    """The time that a request was given ended before its first token."""


class MachineError(TonnageError):
    """A machine description cannot be read."""


class ProbeError(TonnageError):
    """A property of this machine cannot be measured."""


class AuditError(TonnageError):
    """A quality cannot be measured: models that do not compare, or a text that does not do."""


class PackError(TonnageError):
    """A model cannot be packed or calibrated: a target, calibration or disk that does not do."""


class BatchError(TonnageError):
    """A file of requests and one of results that do not belong together, or are in use."""
