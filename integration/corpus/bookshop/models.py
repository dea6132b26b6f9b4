"""Models with fields and relations of every kind."""

from django.contrib.auth.models import User
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField
from django.db import models
from django.db.models import Q


class Tag(models.Model):
    label = models.SlugField(unique=True)
    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE, null=True)
    object_id = models.PositiveIntegerField(null=True)
    target = GenericForeignKey()


class Publisher(models.Model):
    name = models.CharField(max_length=80)
    country = models.CharField(max_length=2, db_index=True)

    def __str__(self):
        return self.name


class Author(models.Model):
    name = models.CharField(max_length=80)
    born = models.DateField(null=True)
    email = models.EmailField(unique=True)
    friends = models.ManyToManyField("self", blank=True)

    def __str__(self):
        return self.name


class BookQuerySet(models.QuerySet):
    def cheap(self):
        return self.filter(price__lt=20)


class Book(models.Model):
    class Kind(models.TextChoices):
        NOVEL = "n"
        TEXT = "t"

    title = models.CharField(max_length=120)
    kind = models.CharField(max_length=1, choices=Kind.choices, default=Kind.NOVEL)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    pages = models.IntegerField()
    published = models.DateTimeField()
    during = DateTimeRangeField(null=True)
    facts = models.JSONField(default=dict)
    words = ArrayField(models.CharField(max_length=20), default=list)
    code = models.UUIDField(null=True)
    reading = models.DurationField(null=True)
    cover = models.BinaryField(null=True)
    publisher = models.ForeignKey(Publisher, on_delete=models.CASCADE, related_name="books")
    authors = models.ManyToManyField(Author, related_name="books", through="Writing")
    tags = GenericRelation(Tag)
    objects = BookQuerySet.as_manager()

    class Meta:
        ordering = ["title"]
        indexes = [models.Index(fields=["published", "kind"])]
        constraints = [models.CheckConstraint(condition=Q(pages__gt=0), name="some_pages")]

    def __str__(self):
        return self.title


class Writing(models.Model):
    book = models.ForeignKey(Book, on_delete=models.CASCADE)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)
    share = models.FloatField(default=1)

    class Meta:
        unique_together = [("book", "author")]


class Novel(Book):
    hero = models.CharField(max_length=40)


class Order(models.Model):
    book = models.ForeignKey(Book, on_delete=models.PROTECT, related_name="orders")
    buyer = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)
    placed = models.DateTimeField(auto_now_add=True)
    count = models.PositiveSmallIntegerField(default=1)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True)

    class Meta:
        get_latest_by = "placed"
