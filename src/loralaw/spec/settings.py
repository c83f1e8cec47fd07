"""What all sections of a study file share: strict types, no unknown keys."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rank = Annotated[int, Field(ge=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Number = Annotated[float, Field(strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Name = Annotated[str, Field(min_length=1, strict=True)]


class Settings(BaseModel):
    """No unknown keys, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
