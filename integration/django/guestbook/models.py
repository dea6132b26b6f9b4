from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)


class Entry(models.Model):
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="entries")
    text = models.TextField()
    stars = models.IntegerField(default=0)
    details = models.JSONField(default=dict)
    written = models.DateTimeField(auto_now_add=True)
