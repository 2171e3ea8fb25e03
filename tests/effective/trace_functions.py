"""All functions that `decompose` is tested on, but for the activations, which have no names of their own."""

from trace_activations import GATES
from trace_attention import ATTENTION
from trace_control_flow import CONTROL_FLOW
from trace_indexing import OTHERS
from trace_normalisations import NORMALISATIONS

NETWORKS = [*GATES, *NORMALISATIONS, *ATTENTION, *CONTROL_FLOW, *OTHERS]
