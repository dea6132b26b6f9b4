"""What Django says: migrations, contrib applications, the admin, and queries of every kind its documentation shows.

Connects where PGHOST and PGPORT lead, and knows nothing of who listens.
"""

import datetime
import os
import sys
from decimal import Decimal

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="no secret",
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="django_corpus",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "PASSWORD": os.environ["PGPASSWORD"],
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
        }
    },
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.sites",
        "django.contrib.flatpages",
        "django.contrib.redirects",
        "django.contrib.postgres",
        "bookshop",
    ],
    SITE_ID=1,
    STATIC_URL="/static/",
    CACHES={"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "django_cache"}},
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
)
# The script is the module of its URLs too.
sys.modules.setdefault("django_corpus", sys.modules["__main__"])
django.setup()

from bookshop.models import Author, Book, Novel, Order, Publisher, Tag, Writing
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.postgres import aggregates as pg
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.contrib.sessions.models import Session
from django.contrib.sites.models import Site
from django.core.cache import cache
from django.core.management import call_command
from django.core.paginator import Paginator
from django.db import connection, models, transaction
from django.db.models import (
    Avg, Case, Count, Exists, ExpressionWrapper, F, FilteredRelation, Max, Min, OuterRef, Prefetch, Q, StdDev, Subquery,
    Sum, Value, Variance, When, Window,
)
from django.db.models import functions as fn
from django.db.models.fields.json import KT
from django.test import Client
from django.urls import path
from django.utils import timezone

class BookAdmin(admin.ModelAdmin):
    list_display = ["title", "publisher", "price", "published"]
    list_filter = ["kind", "publisher", "published"]
    list_select_related = ["publisher"]
    search_fields = ["title", "authors__name", "publisher__name"]
    date_hierarchy = "published"
    inlines = [type("WritingInline", (admin.TabularInline,), {"model": Writing, "extra": 0})]


admin.site.register(Book, BookAdmin)
for model in (Publisher, Author, Order):
    admin.site.register(model)
# The patterns are those of what is registered by now.
urlpatterns = [path("admin/", admin.site.urls)]


def schema():
    call_command("migrate", verbosity=0)
    # The application without migrations; of the others it finds out that there is nothing to do.
    call_command("migrate", run_syncdb=True, verbosity=0)
    call_command("createcachetable")
    call_command("showmigrations", stdout=open(os.devnull, "w"))
    call_command("inspectdb", stdout=open(os.devnull, "w"))
    call_command("check", databases=["default"])


def fill():
    publishers = Publisher.objects.bulk_create([Publisher(name=f"House {i}", country="de" if i % 2 else "fr") for i in range(6)])
    authors = [Author.objects.create(name=f"Author {i}", email=f"a{i}@example.org", born=datetime.date(1950 + i, 1, 1 + i)) for i in range(12)]
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    for i in range(40):
        model = Novel if i % 5 == 0 else Book
        more = {"hero": f"Hero {i}"} if model is Novel else {}
        book = model.objects.create(
            title=f"Book {i}", price=Decimal(5 + i), pages=100 + i, published=begin + datetime.timedelta(days=31 * i),
            during=(begin, begin + datetime.timedelta(days=i + 1)), facts={"isbn": str(i), "size": {"w": i, "h": [1, i]}},
            words=["red", "green"][: i % 3], reading=datetime.timedelta(hours=i), cover=b"\0\1", publisher=publishers[i % 6],
            kind=Book.Kind.TEXT if i % 3 else Book.Kind.NOVEL, **more,
        )
        for author in authors[i % 7 : i % 7 + 2]:
            Writing.objects.create(book_id=book.pk, author=author, share=0.5)
    authors[0].friends.add(*authors[1:4])
    user = User.objects.create_user("reader", "r@example.org", "secret")
    User.objects.create_superuser("root", "root@example.org", "secret")
    group = Group.objects.create(name="readers")
    group.permissions.set(Permission.objects.filter(content_type__app_label="auth")[:3])
    user.groups.add(group)
    for book in Book.objects.all()[:15]:
        with transaction.atomic():
            order = Order.objects.create(book=book, buyer=user, count=book.pages % 4)
            Order.objects.create(book=book, parent=order)
    Tag.objects.create(label="first", target=Book.objects.first())


def lookups():
    books = Book.objects
    instants = dict(exact="Book 1", iexact="book 1", contains="ook", icontains="OOK", startswith="Bo", istartswith="bo",
                    endswith="1", iendswith="1", regex=r"^B.*1$", iregex=r"^b", gt="A", gte="A", lt="Z", lte="Z")
    for lookup, value in instants.items():
        list(books.filter(**{f"title__{lookup}": value}))
    for part in ("year", "iso_year", "month", "day", "week", "week_day", "iso_week_day", "quarter", "hour", "minute", "second"):
        list(books.filter(**{f"published__{part}": 1}))
    list(books.filter(published__date__gte=datetime.date(2021, 1, 1)))
    list(books.filter(published__time__gte=datetime.time(0, 0)))
    list(books.filter(published__range=(timezone.now() - datetime.timedelta(days=4000), timezone.now())))
    list(books.filter(pk__in=range(1, 30)))
    list(books.filter(pk__in=[]))
    list(books.filter(code__isnull=True))
    list(books.filter(publisher__country="de", authors__name__contains="1").distinct())
    list(books.exclude(authors__name="Author 1"))
    list(books.filter(Q(price__lt=10) | ~Q(kind="n") & Q(pages__gt=110) ^ Q(pages=3)))
    list(books.filter(price__lt=F("pages") / 10, title__contains=F("publisher__name")))
    list(books.filter(facts__isbn="3"))
    list(books.filter(facts__size__w__gt=3))
    list(books.filter(facts__size__h__0=1))
    list(books.filter(facts__contains={"isbn": "4"}))
    list(books.filter(facts__contained_by={"isbn": "4"}))
    list(books.filter(facts__has_key="isbn"))
    list(books.filter(facts__has_any_keys=["isbn", "x"]))
    list(books.filter(facts__has_keys=["isbn", "size"]))
    list(books.filter(facts__size__isnull=False).values("facts__isbn", w=KT("facts__size__w")))
    list(books.filter(words__contains=["red"]))
    list(books.filter(words__contained_by=["red", "green", "blue"]))
    list(books.filter(words__overlap=["red"]))
    list(books.filter(words__len=1))
    list(books.filter(words__0="red"))
    list(books.filter(words__0_1=["red"]))
    list(books.filter(during__contains=timezone.now()))
    list(books.filter(during__startswith__lt=timezone.now(), during__isempty=False))
    list(books.filter(during__overlap=(timezone.now() - datetime.timedelta(days=9000), timezone.now())))
    list(books.filter(reading__gt=datetime.timedelta(hours=3)))
    list(books.annotate(search=SearchVector("title", "kind")).filter(search="book"))
    list(books.annotate(rank=SearchRank(SearchVector("title"), SearchQuery("book"))).order_by("-rank"))
    list(books.filter(title__search="book"))


def shapes():
    books = Book.objects
    for page in Paginator(books.select_related("publisher"), 7):
        list(page)
    book = books.select_related("publisher").prefetch_related("authors", "tags", "orders__buyer").get(title="Book 1")
    list(book.authors.all()), list(book.orders.all()), book.publisher.name, list(book.tags.all())
    list(books.prefetch_related(Prefetch("orders", queryset=Order.objects.filter(count__gt=1), to_attr="big")))
    list(Author.objects.prefetch_related("books__publisher", "friends"))
    books.first(), books.last(), books.count(), books.exists(), books.none().count(), Order.objects.latest(), Order.objects.earliest()
    books.in_bulk([1, 2, 3]), books.contains(book), books.filter(pk=book.pk).get()
    list(books.values("title", "publisher__name")), list(books.values_list("title", flat=True)), list(books.values_list("id", "title", named=True))
    list(books.only("title")), list(books.defer("facts", "words")), list(books.reverse()[:3]), list(books.order_by("?")[:2])
    list(books.order_by(F("code").desc(nulls_last=True), "-published")), list(books.dates("published", "month")), list(books.datetimes("published", "hour"))
    list(books.distinct("publisher").order_by("publisher", "title")), list(books.cheap().iterator(chunk_size=5))
    list(books.filter(price__lt=9).union(books.filter(pages__gt=130), all=True)), list(books.values("id").intersection(Novel.objects.values("id")))
    list(books.values("id").difference(Novel.objects.values("id")).order_by("id")), list(Novel.objects.filter(hero__contains="1")), list(Novel.objects.all())
    books.explain(), books.filter(pk=1).explain(analyze=True, format="json")
    list(books.raw("SELECT * FROM bookshop_book WHERE pages > %s", [120])), list(books.filter(pk__in=Order.objects.values("book")))
    list(Author.objects.filter(friends__name="Author 1")), list(Order.objects.filter(parent__buyer__username="reader"))
    list(Tag.objects.prefetch_related("target")), list(ContentType.objects.get_for_models(Book, Author).items())
    book.refresh_from_db(), book.refresh_from_db(fields=["title"]), Book.objects.get_or_create(title="Book 1", defaults={})
    with transaction.atomic():
        list(books.all()[:3])
        list(Author.objects.all())
    with connection.cursor() as cursor:
        cursor.execute("SELECT version()")
        cursor.execute("SELECT count(*), max(price) FROM bookshop_book WHERE title LIKE %s", ["%1%"])
        cursor.fetchall()
        cursor.execute("WITH RECURSIVE o(id) AS (SELECT id FROM bookshop_order WHERE parent_id IS NULL UNION ALL "
                       "SELECT c.id FROM bookshop_order c JOIN o ON c.parent_id = o.id) SELECT count(*) FROM o")


def sums():
    books = Book.objects
    books.aggregate(Avg("price"), Max("price"), Min("price"), Sum("pages"), StdDev("pages"), Variance("pages"))
    books.aggregate(all=Count("*"), n=Count("publisher", distinct=True), cheap=Count("pk", filter=Q(price__lt=9)), total=Sum(F("price") * F("pages"), default=0))
    books.aggregate(a=pg.ArrayAgg("title", order_by="title"), b=pg.StringAgg("title", Value(", ")), c=pg.BoolAnd(Q(pages__gt=1)), d=pg.BitOr("pages"), e=pg.JSONBAgg("title"))
    books.aggregate(a=pg.Corr("pages", "price"), b=pg.RegrSlope(y="pages", x="price"), c=pg.CovarPop("pages", "price"))
    list(Publisher.objects.annotate(n=Count("books"), top=Max("books__price")).filter(n__gt=2).order_by("-n"))
    list(Publisher.objects.values("country").annotate(n=Count("books")))
    list(books.annotate(year=fn.ExtractYear("published"), month=fn.TruncMonth("published")).values("year", "month").annotate(n=Count("*")).order_by("year"))
    for trunc in (fn.TruncYear, fn.TruncQuarter, fn.TruncWeek, fn.TruncDay, fn.TruncHour, fn.TruncMinute, fn.TruncSecond, fn.TruncDate, fn.TruncTime):
        list(books.annotate(at=trunc("published")).values("at").annotate(n=Count("pk")))
    newest = Order.objects.filter(book=OuterRef("pk")).order_by("-placed")
    list(books.annotate(last=Subquery(newest.values("placed")[:1]), sold=Exists(newest)).filter(sold=True))
    list(books.annotate(n=Subquery(newest.order_by().values("book").annotate(n=Count("*")).values("n"))))
    list(books.filter(Exists(newest), ~Exists(newest.filter(count__gt=100))))
    list(books.annotate(size=Case(When(pages__lt=110, then=Value("s")), When(pages__lt=130, then=Value("m")), default=Value("l"))).values("size").annotate(n=Count("*")))
    list(books.annotate(net=ExpressionWrapper(F("price") * Value(Decimal("0.8")), output_field=models.DecimalField())).filter(net__gt=9))
    list(books.alias(tax=F("price") / 5).annotate(gross=F("tax") + F("price")).order_by("gross"))
    list(Author.objects.annotate(cheap=FilteredRelation("books", condition=Q(books__price__lt=10))).filter(cheap__isnull=False))
    for function in (fn.RowNumber, fn.Rank, fn.DenseRank, fn.PercentRank, fn.CumeDist):
        list(books.annotate(w=Window(function(), partition_by=F("publisher"), order_by=F("price").desc())))
    list(books.annotate(a=Window(fn.Lag("price", 1), order_by="published"), b=Window(fn.Lead("price"), order_by="published"), c=Window(fn.FirstValue("title"), partition_by="kind", order_by="pk"), d=Window(fn.Ntile(4), order_by="pk"), e=Window(Sum("pages"), partition_by="kind", order_by="pk")))
    list(books.annotate(r=Window(fn.RowNumber(), partition_by="publisher", order_by="pk")).filter(r__lte=2))


def functions():
    f = fn
    strings = dict(
        a=f.Lower("title"), b=f.Upper("title"), c=f.Length("title"), d=f.Substr("title", 1, 3), e=f.Concat("title", Value("-"), "kind"),
        g=f.Trim("title"), h=f.LTrim("title"), i=f.RTrim("title"), j=f.Left("title", 2), k=f.Right("title", 2), l=f.LPad("title", 20),
        m=f.RPad("title", 20), n=f.Repeat("title", 2), o=f.Replace("title", Value("B"), Value("b")), p=f.Reverse("title"),
        q=f.StrIndex("title", Value("o")), r=f.MD5("title"), t=f.Chr(Value(65)), u=f.Ord("title"),
    )
    for name, function in strings.items():
        list(Book.objects.annotate(**{name: function}).values(name))
    numbers = [f.Abs, f.Ceil, f.Floor, f.Exp, f.Ln, f.Sqrt, f.Sign, f.Sin, f.Cos, f.Tan, f.ATan, f.Degrees, f.Radians, f.Round]
    for function in numbers:
        list(Book.objects.annotate(v=function(F("pages") / 1000.0)).values("v"))
    for function in (f.Power(F("pages"), 2), f.Mod(F("pages"), 7), f.Log(2, F("pages")), f.ATan2(F("pages"), 2), f.Pi(), f.Random(), f.Now()):
        list(Book.objects.annotate(v=function).values("v"))
    list(Book.objects.annotate(v=f.Coalesce("code", "code"), w=f.NullIf("kind", Value("n")), x=f.Greatest("pages", Value(3)), y=f.Least("pages", Value(3))))
    list(Book.objects.annotate(v=f.Cast("pages", models.TextField()), w=f.Collate("title", "C"), x=f.JSONObject(t="title", n=f.Lower("kind"))).order_by("w"))
    list(Book.objects.annotate(v=f.ExtractWeek("published"), w=f.ExtractIsoYear("published")).values("v", "w"))


def applications():
    client = Client(headers={"host": "localhost"})
    client.login(username="root", password="secret")
    for page in ("", "bookshop/book/", "bookshop/book/?q=Book+1&kind__exact=n&published__year=2020", "bookshop/book/?publisher__id__exact=1&o=3",
                 "bookshop/book/1/change/", "bookshop/book/add/", "bookshop/book/1/history/", "bookshop/book/1/delete/", "bookshop/author/", "bookshop/order/",
                 "bookshop/publisher/1/change/", "auth/user/", "auth/user/1/change/", "auth/group/", "auth/group/1/change/", "sites/site/", "flatpages/flatpage/",
                 "redirects/redirect/", "autocomplete/?app_label=bookshop"):
        answer = client.get(f"/admin/{page}")
        assert answer.status_code in (200, 302, 403), (page, answer.status_code)
    client.post("/admin/bookshop/publisher/add/", {"name": "New", "country": "it"})
    client.get("/no/such/page/")
    client.logout()
    user = User.objects.get(username="reader")
    user.has_perm("auth.add_user"), user.get_all_permissions(), list(User.objects.with_perm("auth.add_user", backend="django.contrib.auth.backends.ModelBackend"))
    Session.objects.filter(expire_date__lt=timezone.now()).count(), call_command("clearsessions")
    Site.objects.get_current(), list(Site.objects.all())
    cache.set("a", 1), cache.get("a"), cache.get_many(["a", "b"]), cache.add("a", 2), cache.incr("a"), cache.delete("a")


def writes():
    Book.objects.filter(pk=1).update(price=F("price") + 1)
    Book.objects.bulk_update(Book.objects.all()[:3], ["pages"])
    Author.objects.update_or_create(email="a1@example.org", defaults={"name": "Renamed"})
    with transaction.atomic():
        list(Book.objects.select_for_update().filter(pk=1))
        list(Book.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk=2))
        list(Book.objects.filter(pk=1))
    Author.objects.bulk_create([Author(name="x", email="a1@example.org")], ignore_conflicts=True)
    Order.objects.filter(parent__isnull=False).delete()
    Publisher.objects.filter(name="New").delete()
    Tag.objects.all().delete()


for part in (schema, fill, lookups, shapes, sums, functions, applications, writes):
    part()
