"""A stored request without its bulk: enough to speak of a job, where a page of jobs is read."""

from typing import Final

_SHORT: Final = 2000
"""Characters of JSON that a part may have and stay whole."""
_SAID: Final = 300

GIST: Final = f"""CASE WHEN pg_column_size(job_payload.spec) < {_SHORT} THEN job_payload.spec ELSE (
    SELECT jsonb_object_agg(key, CASE
               WHEN length(value::text) < {_SHORT} THEN value
               WHEN jsonb_typeof(value) = 'string' THEN to_jsonb(left(value #>> '{{}}', {_SAID}))
               WHEN jsonb_typeof(value) = 'array' THEN (
                   SELECT coalesce(jsonb_agg(
                              CASE WHEN length(part::text) < {_SHORT} THEN part
                                   ELSE jsonb_build_object('content',
                                            left(part ->> 'content', {_SAID})) END), '[]')
                     FROM (VALUES (value -> 0), (value -> -1)) AS ends (part)
                    WHERE length(part::text) < {_SHORT} OR part ->> 'content' IS NOT NULL)
               ELSE '{{}}' END)
      FROM jsonb_each(job_payload.spec)) END AS spec"""  # noqa: S608  # our own words
"""The column of a request, large texts cut off; of a long list the first and the last."""
