"""Requests and answers, field by field: they check what comes in and become /openapi.json."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# An 8 x 8 gray PNG.
EXAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGNsaGhgwAaYsIoOWgkAMBcBkGHHl6YAAAAASUVORK5CYII="
)
# An 8 x 8 PNG of 16 bits: 512 mm everywhere.
EXAMPLE_DEPTH = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIEAAAAACx9D0UAAAAEElEQVR42mNgYkCFDAMjAAAiyACBdMHyNwAAAABJRU5ErkJggg=="
)


# The length makes pydantic read the text as Unicode, so half a surrogate pair is refused too.
Text = Annotated[str, Field(max_length=1000)]
Image = Annotated[str, Field(description="PNG, JPEG, WEBP or BMP in base64, with or without a data: prefix.")]
Seed = Annotated[
    int,
    Field(ge=0, lt=2**31, description="Makes Monte-Carlo draws repeatable; unused without draws."),
]
ClientId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


class Request(BaseModel):
    """Types are not converted and unknown fields are errors: a misspelt field must not pass unseen."""

    model_config = ConfigDict(strict=True, extra="forbid")


class FoodRequest(Request):
    """/predict of a food policy: action and food_type, or text alone."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"image": EXAMPLE_IMAGE, "action": "skewering", "food_type": "banana"},
                {
                    "image": EXAMPLE_IMAGE,
                    "action": "scoop",
                    "food_type": "mashed potatoes",
                    "text": "Scoop it",
                },
            ]
        }
    )

    image: Image
    action: Text | None = None
    food_type: Text | None = None
    text: Text | None = None
    seed: Seed | None = None


class FoodBatchRequest(FoodRequest):
    """/predict_batch: several Monte-Carlo draws of one prediction."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "image": EXAMPLE_IMAGE,
                    "action": "skewering",
                    "food_type": "grape",
                    "batch_size": 8,
                    "seed": 1,
                },
                {"image": EXAMPLE_IMAGE, "action": "twirl", "food_type": "noodles", "enable_dropout": False},
            ]
        }
    )

    batch_size: Annotated[int, Field(ge=1, le=64)] = 16
    enable_dropout: bool = True


class ManipulationRequest(Request):
    """/predict of a policy that moves a robot: one step of a client's episode."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"image": EXAMPLE_IMAGE, "text": "pick up the apple"},
                {"image": EXAMPLE_IMAGE, "text": "pick up the apple", "client_id": "arm-1", "reset": True},
            ]
        }
    )

    image: Annotated[Image | None, Field(description="The colour image, short for images.image.")] = None
    images: Annotated[
        dict[str, Image] | None,
        Field(
            max_length=16,
            description="Images of GET /spec by name: colours, or one channel, of 16 bits (PNG) for uint16.",
            examples=[{"depth": EXAMPLE_DEPTH, "gelsight_left": EXAMPLE_IMAGE}],
        ),
    ] = None
    text: Text | None = None
    client_id: Annotated[
        ClientId | None, Field(description="Whose window of frames to go on with; none for a single step.")
    ] = None
    reset: Annotated[bool, Field(description="Begin the client's episode with this step.")] = False
    observations: Annotated[
        dict[str, Any] | None,
        Field(
            description="Further named arrays of GET /spec, as nested lists.",
            examples=[{"joint_positions": [0.1, -0.5]}],
        ),
    ] = None
    joint_names: Annotated[
        list[Text] | None,
        Field(
            max_length=256,
            description="The joints in the order in which they are sent; refused where not the policy's.",
        ),
    ] = None
    input_param: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Of a policy that predicts what it will see: how much of its input is measured from "
            "the episode's second step on; the rest is its last prediction. Default: GET /spec's.",
        ),
    ] = None
    attention_points: Annotated[
        bool, Field(description="Answer where the policy looks, too; refused where it has no such points.")
    ] = False
    seed: Seed | None = None


class ResetRequest(Request):
    """/reset: forget a client's episode."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"client_id": "arm-1"}]})

    client_id: ClientId


class LoadModelRequest(Request):
    """/load_model: a checkpoint under the server's models root."""

    model_config = ConfigDict(
        protected_namespaces=(), json_schema_extra={"examples": [{"checkpoint_path": "food_smooth_l1"}]}
    )

    checkpoint_path: Annotated[
        str,
        Field(min_length=1, max_length=1000, description="Relative to the models root, or absolute in it."),
    ]
    config_file: Annotated[
        str | None, Field(max_length=1000, description="Not used: the checkpoint carries its configuration.")
    ] = None
    loss_type: Annotated[
        Literal["cross_entropy", "l1", "smooth_l1"] | None,
        Field(description="Where given, the checkpoint must have been trained with it."),
    ] = None


class Answer(BaseModel):
    """What every answer has."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    success: Literal[True] = True
    request_id: str = ""


class Error(BaseModel):
    code: str
    message: str
    field: str | None
    request_id: str


class ErrorAnswer(BaseModel):
    """Every answer other than 200."""

    success: Literal[False] = False
    error: Error


class Latency(BaseModel):
    """Milliseconds: decoding the request, waiting, the policy's call, all of it."""

    decode: float
    queue: float
    infer: float
    total: float


class Prediction(BaseModel):
    """Fractions of the image's width and height, y down; the direction in degrees, 90 is down."""

    start_x: float
    start_y: float
    end_x: float
    end_y: float
    skewer_x: float
    skewer_y: float
    direction_degrees: float


class PolicyAnswer(Answer):
    """What every answer of the policy says of its origin."""

    input_text: str | None
    instruction: Annotated[str | None, Field(description="What the policy was asked for.")]
    model: Annotated[str, Field(description="Identity of the model that answered.")]
    encoder: Annotated[str, Field(description="Identity of the policy's sentence encoder.")]
    latency_ms: Latency


class FoodAnswer(PolicyAnswer):
    prediction: Prediction
    input_action: str | None
    input_food_type: str | None


class Statistics(BaseModel):
    """Over the draws; variances are of the population."""

    mean: list[float]
    std: list[float]
    total_variance: float
    centroid_variance: float
    size_variance: float
    distance_variance: float
    num_samples: int


class FoodBatchAnswer(PolicyAnswer):
    predictions: Annotated[list[list[float]], Field(description="x1, y1, x2, y2 of each draw.")]
    statistics: Statistics
    mean_prediction: Prediction
    deterministic_prediction: Prediction
    batch_size: int
    enable_dropout: bool
    seed: Annotated[int | None, Field(description="Of the draws; send it to have them again.")]
    input_action: str | None
    input_food_type: str | None


class NamedAction(BaseModel):
    values: Annotated[Any, Field(description="A number, or nested lists in the action's shape.")]
    unit: str
    minimum: Any
    maximum: Any
    frame: str


class LanguageAction(BaseModel):
    phrase: str
    label: Annotated[int, Field(description="Its class in the policy's vocabulary.")]
    probability: float


class AttentionPoints(BaseModel):
    """Points as [x, y]: 0 is the left or upper end of the map that the policy searches, 1 the other.

    A map of convolutions ends three pixels before the edges of the image in the policy's size; CLIP's, half
    a patch before them.
    """

    encoder: Annotated[list[list[float]], Field(description="Where it looks in what it sees now.")]
    decoder: Annotated[
        list[list[float]],
        Field(description="Where it expects to look next, on the map of convolutions; may pass 0 and 1."),
    ]


class ManipulationAnswer(PolicyAnswer):
    action: dict[str, NamedAction]
    language_actions: Annotated[
        list[LanguageAction] | None,
        Field(description="The best language actions, best first; null of policies that name none."),
    ] = None
    attention_points: Annotated[
        dict[str, AttentionPoints] | None, Field(description="By image; null where not asked for.")
    ] = None
    terminate: Annotated[bool | None, Field(description="The episode is over; null where not predicted.")]
    client_id: str | None
    step: Annotated[int, Field(description="Number of the step in the client's episode, from 1.")]
    session: Annotated[
        Literal["continued", "new", "reset", "expired", "model_changed"] | None,
        Field(description="Whether the episode goes on, or why it began with this step."),
    ]


class ResetAnswer(Answer):
    client_id: str
    existed: bool


class Combination(BaseModel):
    action: str
    food_type: str


class CombinationsAnswer(Answer):
    combinations: list[Combination]
    available_actions: list[str]
    available_food_types: list[str]
    total_combinations: int


class LoadModelAnswer(Answer):
    message: str
    model: str
    notes: Annotated[list[str], Field(description="What of the request had no effect, and why.")]


class HealthAnswer(Answer):
    status: Literal["healthy", "loading", "stopping"]
    model_loaded: bool
    config_loaded: bool
    model: str | None
    task: str | None
    clients: int
    queued: int


class SpecAnswer(Answer):
    model: str
    spec: Annotated[dict[str, Any], Field(description="Observations and actions with shapes, units, bounds.")]


class ProbeAnswer(Answer):
    status: Literal["alive", "ready"]
