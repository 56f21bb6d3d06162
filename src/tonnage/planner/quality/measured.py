"""What was measured of the very weights and pages that a plan has."""

from collections.abc import Sequence

from tonnage.core.model_spec import ModelSpec
from tonnage.core.quality import AuditResult, PlanQuality
from tonnage.core.workload import Workload
from tonnage.planner.quality.precision import mix_id


def audit_of(
    spec: ModelSpec, workload: Workload, audits: Sequence[AuditResult]
) -> AuditResult | None:
    """Return the first of `audits` that compares just this mix with the file as it stands.

    audits: of the weights of `spec`, with the kernels of today.
    """
    if not audits:
        return None
    wanted = mix_id(spec, workload.formats), workload.kv_format
    for audit in audits:
        against = audit.comparison
        if against is None or (audit.mix, audit.kv_format) != wanted:
            continue
        reference = against.reference_precision, against.reference_kv_format
        if against.reference == audit.model and reference == (None, "f16"):
            return audit
    return None


def known_quality(estimated: PlanQuality, audit: AuditResult | None) -> PlanQuality:
    """Return the quality as `audit` measured it, or as `estimated` without one."""
    if audit is None or audit.comparison is None or estimated.basis != "estimate":
        return estimated
    kld = audit.comparison.mean_kld.value
    return PlanQuality(kld, "measured", estimated_kld=estimated.mean_kld)
