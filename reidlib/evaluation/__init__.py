"""From features to numbers: protocols, rankings, re-ranking, intervals.

Three lines score any features (an .npz with `features`, `ids`, `cameras`; `reid evaluate` does the same):

    from reidlib.evaluation import Features, KReciprocal, evaluate
    query, gallery = Features.read("query.npz"), Features.read("gallery.npz")
    print(evaluate(query, gallery, rerank=KReciprocal()).metrics())"""

from reidlib.evaluation.distances import TIE_RULE
from reidlib.evaluation.evaluator import evaluate, evaluate_files
from reidlib.evaluation.features import Features
from reidlib.evaluation.protocols import PROTOCOLS, Protocol
from reidlib.evaluation.ranking import Draws, Ranking
from reidlib.evaluation.reranking import ECN, KReciprocal, reranking

__all__ = ["ECN", "PROTOCOLS", "TIE_RULE", "Draws", "Features", "KReciprocal", "Protocol", "Ranking"]
__all__ += ["evaluate", "evaluate_files", "reranking"]
