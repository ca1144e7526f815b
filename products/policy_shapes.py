"""The release policy's rules a second time, as SHACL shapes with SPARQL: the target ``policy-shapes.ttl``.

They are the agency's data, signed with the trust data, and run by an engine that others wrote
(``products.verification.shapes``). They say again what ``products.verification.rules`` says of grant,
resources, budget, reviewers and registrars; who changes one looks at the other, and a test holds them
together on the table of insiders.

Source:
    W3C SHACL, section 5 (SPARQL-based constraints).
"""

_HEAD = """@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
@prefix sf: <urn:shufang:shape:> .

<urn:shufang:shape:> sh:declare [ sh:prefix "sf" ; sh:namespace "urn:shufang:shape:"^^xsd:anyURI ] .
"""

_SHAPES: tuple[tuple[str, str, str, str], ...] = (
    (
        "Granted",
        "Used",
        "a run used a resource that the grant does not give",
        (
            "$this sf:node ?n ; sf:resource ?r ; sf:version ?v . "
            "FILTER NOT EXISTS { ?g a sf:Granted ; sf:node ?n ; sf:resource ?r ; sf:version ?v }"
        ),
    ),
    (
        "GrantedColumns",
        "Used",
        "a run used a column that the grant does not give",
        (
            "$this sf:node ?n ; sf:resource ?r ; sf:version ?v ; sf:column ?c . "
            "FILTER NOT EXISTS { ?g a sf:Granted ; sf:node ?n ; sf:resource ?r ; sf:version ?v ; sf:column ?c }"
        ),
    ),
    (
        "Stated",
        "Used",
        "a run used a resource otherwise than its holder states it",
        (
            "$this sf:node ?n ; sf:resource ?r ; sf:version ?v ; sf:commitment ?d ; sf:score ?s ; sf:report ?q . "
            "FILTER NOT EXISTS { ?x a sf:Stated ; sf:node ?n ; sf:resource ?r ; sf:version ?v ; sf:commitment ?d ; "
            "sf:score ?s ; sf:report ?q }"
        ),
    ),
    (
        "Quality",
        "Used",
        "a resource scored less than the grant asks",
        "$this sf:score ?s . ?g a sf:Grant ; sf:scoreMin ?m . FILTER (?s < ?m)",
    ),
    (
        "Purpose",
        "Run",
        "a run had another purpose, scenario or task than the grant",
        (
            "$this sf:purpose ?p ; sf:scenario ?s ; sf:task ?t . "
            "FILTER NOT EXISTS { ?g a sf:Grant ; sf:purpose ?p ; sf:scenario ?s ; sf:task ?t }"
        ),
    ),
    (
        "Window",
        "Run",
        "a run lay outside the grant's window",
        (
            "$this sf:started ?a ; sf:finished ?b . ?g a sf:Grant ; sf:notBefore ?x ; sf:notAfter ?y ; sf:skew ?k . "
            "FILTER (?a < ?x - ?k || ?b > ?y + ?k || ?b < ?a)"
        ),
    ),
    (
        "Budget",
        "Run",
        "a run went beyond the grant's budget or uses",
        (
            "$this sf:budgetBefore ?b ; sf:budgetAfter ?c ; sf:usesBefore ?u ; sf:usesAfter ?w . "
            "?g a sf:Grant ; sf:budgetTotal ?t ; sf:usesMax ?m . FILTER (?c > ?t || ?w > ?m || ?c < ?b || ?w <= ?u)"
        ),
    ),
    (
        "Contributors",
        "Run",
        "fewer contributors than the grant asks",
        "$this sf:contributors ?c . ?g a sf:Grant ; sf:contributorsMin ?m . FILTER (?c < ?m)",
    ),
    (
        "ParticipantRan",
        "Release",
        "a participant has no run, or a run no participant",
        (
            "{ $this sf:participant ?n . FILTER NOT EXISTS { ?r a sf:Run ; sf:node ?n } } UNION "
            "{ $this a sf:Release . ?r a sf:Run ; sf:node ?n . FILTER NOT EXISTS { $this sf:participant ?n } }"
        ),
    ),
    (
        "Form",
        "Release",
        "the product has another form than the grant",
        "$this sf:form ?f . ?g a sf:Grant ; sf:form ?e . FILTER (?f != ?e)",
    ),
    (
        "Operator",
        "Release",
        "another operator than the grant's signed the release",
        (
            '$this a sf:Release . ?x a sf:Signature ; sf:on $this ; sf:role "operator" ; sf:actor ?a . ?g a sf:Grant ; '
            "sf:operator ?o . FILTER (?a != ?o)"
        ),
    ),
    (
        "Reviewers",
        "Release",
        "fewer than two reviewers of two bodies apart from operator and departments",
        (
            '$this a sf:Release . { SELECT (COUNT(DISTINCT ?b) AS ?n) WHERE { ?x a sf:Signature ; sf:kind "review" ; '
            'sf:role "reviewer" ; sf:organisation ?b . FILTER NOT EXISTS { ?y a sf:Signature ; sf:kind "release" ; '
            'sf:organisation ?b ; sf:role ?p . FILTER (?p IN ("operator", "node")) } } } FILTER (?n < 2)'
        ),
    ),
    (
        "Registrars",
        "Release",
        "fewer than two registrars signed the release",
        (
            '$this a sf:Release . { SELECT (COUNT(DISTINCT ?a) AS ?n) WHERE { ?x a sf:Signature ; sf:kind "release" ; '
            'sf:role "registrar" ; sf:actor ?a } } FILTER (?n < 2)'
        ),
    ),
    (
        "RegistrarsLast",
        "Release",
        "something was logged after a registrar signed the release",
        (
            '$this a sf:Release . ?x a sf:Signature ; sf:on $this ; sf:role "registrar" ; sf:origin ?o ; sf:index ?i . '
            "?y a sf:Signature ; sf:origin ?o ; sf:index ?j . FILTER (?j > ?i) "
            'FILTER NOT EXISTS { ?y sf:on $this ; sf:role "registrar" }'
        ),
    ),
    (
        "SourceTerm",
        "Stated",
        "the registration of a source had ended at the release",
        "$this sf:validUntil ?e . ?r a sf:Release ; sf:releasedAt ?t . FILTER (?e <= ?t)",
    ),
    (
        "Term",
        "Release",
        "the product's term goes beyond its registration or its grant",
        "$this sf:validTo ?v ; sf:registeredUntil ?e . ?g a sf:Grant ; sf:notAfter ?a . FILTER (?v > ?e || ?v > ?a)",
    ),
)


def _shape(name: str, target: str, message: str, where: str) -> str:
    return (
        f'\nsf:{name} a sh:NodeShape ; sh:targetClass sf:{target} ;\n  sh:sparql [ sh:message "{message}" ;\n'
        f'    sh:prefixes <urn:shufang:shape:> ;\n    sh:select """SELECT $this WHERE {{ {where} }}""" ] .\n'
    )


DEFAULT_SHAPES: bytes = (_HEAD + "".join(_shape(*row) for row in _SHAPES)).encode("utf-8")
"""Shapes for the default release policy; an agency publishes them as ``policy-shapes.ttl``."""
