"""The Hub's Jobs API and buckets, for workers."""
